"""What PSROI pooling computes, on every CPU backend: worked by hand, and against torchvision."""

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

import lesionkit
from lesionkit.ops import ps_roi_pool, use_backend
from tests.tolerances import assert_close

NAN, INF = float("nan"), float("inf")


@pytest.fixture(params=["reference", "cpu"], autouse=True)
def backend(request):
    torch.manual_seed(0)
    with use_backend(request.param):
        yield request.param


def ramp(channels, height, width, dtype=torch.float32):
    """Channel c holds 100c + 10y + x, so that a mean tells which cells it is of."""
    c, y, x = torch.meshgrid(*map(torch.arange, (channels, height, width)), indexing="ij")
    return (100 * c + 10 * y + x).to(dtype)[None]


def random_rois(count, batch, size, dtype=torch.float32):
    first, extent = torch.rand(count, 2) * size * 1.2 - size * 0.1, torch.rand(count, 2) * size
    index = torch.randint(batch, (count, 1))
    return torch.cat([index, first, first + extent], dim=1).to(dtype)


def columns_of(x1, x2, convention="rfcn", size=6):
    """The cells [low, high) that one bin covers on x, at scale 1; None when it is empty."""
    features = torch.eye(size)[:, None, None, :]  # sample s is 1 in column s, 0 elsewhere
    rois = torch.tensor([[s, x1, 0, x2, 1] for s in range(size)], dtype=torch.float32)
    if convention == "torchvision":  # never pools the last row: give it one to spare
        features = features.repeat(1, 1, 3, 1)
    covered = ps_roi_pool(features, rois, 1, 1.0, convention).flatten().nonzero().flatten()
    if covered.numel() == 0:
        return None
    low, high = covered[0].item(), covered[-1].item() + 1
    assert covered.numel() == high - low
    return low, high


def test_two_by_two_bins_worked_by_hand():
    # x: start (4)/8 = 0.5, end (27 + 1)/8 = 3.5, width 3, bins of 1.5:
    #    [0.5, 2.0] covers cells 0..1, mean 0.5; [2.0, 3.5] covers cells 2..3, mean 2.5.
    # y: start 12/8 = 1.5, end (35 + 1)/8 = 4.5: cells 1..2, mean 1.5; cells 3..4, mean 3.5.
    pooled = ps_roi_pool(ramp(4, 6, 6), torch.tensor([[0.0, 4, 12, 27, 35]]), 2, 1 / 8)
    assert pooled.tolist() == [[[[15.5, 117.5], [235.5, 337.5]]]]


def test_torchvision_convention_worked_by_hand():
    # x: start round(0.5) = 1, end round(27/8) = 3, width 2, bins of 1: cell 1, cell 2.
    # y: start round(1.5) = 2, end round(35/8) = 4, width 2: cell 2, cell 3.
    rois = torch.tensor([[0.0, 4, 12, 27, 35]])
    pooled = ps_roi_pool(ramp(4, 6, 6), rois, 2, 1 / 8, "torchvision")
    assert pooled.tolist() == [[[[21, 122], [231, 332]]]]


def test_output_channel_reads_its_group():
    features = torch.arange(2 * 9.0)[None, :, None, None].expand(1, 18, 5, 5)
    pooled = ps_roi_pool(features, torch.tensor([[0.0, 0, 0, 4, 4]]), 3, 1.0)
    assert torch.equal(pooled[0], torch.arange(18.0).reshape(2, 3, 3))


@pytest.mark.parametrize(
    "x1, x2, cells",
    [
        (1, 3, (1, 4)),  # the last pixel belongs to the box
        (2.5, 4.4, (3, 5)),  # 2.5 rounds to 3, not to the even 2; 4.4 to 4, so it ends at 5
        (0.49999997, 1, (0, 2)),  # floor(x + 0.5) would give 1 in float32
        (-0.5, 1.5, (0, 3)),  # -1 to 3, clipped at 0
        (4, 9, (4, 6)),  # 4 to 10, clipped at 6
        (5, 1, (5, 6)),  # width max(2 - 5, 0.1): [5, 5.1]
        (3, 2, (3, 4)),  # width max(0, 0.1): [3, 3.1]
        (6, 8, None),  # outside
        (-7, -2, None),  # -7 to -1
        (1e30, 2e30, None),
        (-1e30, 1e30, (0, 6)),
    ],
)
def test_rounding_and_clipping(x1, x2, cells):
    assert columns_of(x1, x2) == cells


@pytest.mark.parametrize(
    "x1, x2, cells",
    [
        (1, 3, (1, 3)),  # no pixel is added
        (2, 2, (2, 3)),  # at least one cell wide
        (0, 9, (0, 5)),  # clipped to size - 1: the last column is never pooled
        (5, 9, None),
    ],
)
def test_torchvision_rounding_and_clipping(x1, x2, cells):
    assert columns_of(x1, x2, "torchvision") == cells


def test_scaling_comes_after_rounding():
    # start round(1.4)/2 = 0.5 and end (round(1.4) + 1)/2 = 1: cell 0 alone. Scaled first, 0.7 would
    # round to 1.
    assert ps_roi_pool(ramp(1, 4, 4), torch.tensor([[0, 1.4, 0, 1.4, 0]]), 1, 0.5).item() == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_agrees_with_torchvision(dtype):
    features = torch.randn(2, 2 * 49, 17, 23, dtype=dtype)
    rois = random_rois(60, 2, 180, dtype)  # many reach past the last row and column
    ours = ps_roi_pool(features, rois, 7, 1 / 8, "torchvision")
    assert_close(ours, torchvision.ops.ps_roi_pool(features, rois, 7, 1 / 8).double())


@pytest.mark.parametrize("convention", ["rfcn", "torchvision"])
@pytest.mark.parametrize(
    "row",
    [
        *([0] + [bad if i == k else good for i, good in enumerate((1.0, 1.0, 5.0, 5.0))]
          for k in range(4) for bad in (NAN, INF, -INF)),
        *([index, 1, 1, 5, 5] for index in (NAN, INF, -INF, -1, -0.5, 2, 2.5, 1e30, -1e30)),
        [0, 3e38, 1, 3e38, 5],  # times the scale 4 it is infinite
        [0, -3e38 / 4, 1, 3e38 / 4, 5],  # its width is
    ],
)  # fmt: skip
def test_unusable_roi_gives_zeros_and_no_gradient(row, convention):
    features = torch.randn(2, 4, 24, 24, requires_grad=True)
    good = torch.tensor([[0.0, 1, 0, 4, 5], [1, 0, 1, 3, 3]])
    rois = torch.stack([good[0], torch.tensor(row), good[1]])
    pooled = ps_roi_pool(features, rois, 2, 4.0, convention)
    alone = ps_roi_pool(features, good, 2, 4.0, convention)
    assert torch.equal(pooled[1], torch.zeros(1, 2, 2))
    assert torch.equal(pooled[::2], alone)
    assert alone.abs().min() > 0
    gradient = torch.autograd.grad(pooled.sum(), features)[0]
    assert torch.equal(gradient, torch.autograd.grad(alone.sum(), features)[0])


def test_sample_index_is_truncated():
    features = torch.stack([torch.zeros(1, 3, 3), torch.ones(1, 3, 3)])
    rois = torch.tensor([[1.7, 0, 0, 1, 1], [0.9, 0, 0, 1, 1], [-0.0, 0, 0, 1, 1]])
    assert ps_roi_pool(features, rois, 1, 1.0).flatten().tolist() == [1, 0, 0]


def test_bad_feature_stays_in_its_bins():
    features = ramp(1, 5, 7)
    features[0, 0, 2, 3], features[0, 0, 0, 5] = NAN, INF
    boxes = [[0, 0, 2, 4], [4, 1, 6, 4], [3, 2, 3, 2], [2, 1, 4, 3], [5, 0, 6, 0], [0, 0, 6, 4]]
    means = ps_roi_pool(features, [torch.tensor(boxes, dtype=torch.float32)], 1, 1.0).flatten()
    expected = torch.tensor([21, 30, NAN, NAN, INF, NAN])
    assert torch.equal(means.nan_to_num(nan=-1), expected.nan_to_num(nan=-1))


def test_list_of_boxes():
    features = torch.randn(3, 4, 9, 9)
    rois = random_rois(5, 3, 9)
    rois[:, 0] = torch.tensor([0.0, 0, 2, 2, 2])
    boxes = [rois[:2, 1:], rois[:0, 1:], rois[2:, 1:]]
    assert torch.equal(ps_roi_pool(features, boxes, 2, 1.0), ps_roi_pool(features, rois, 2, 1.0))
    assert ps_roi_pool(features, [rois[:0, 1:]] * 3, 2, 1.0).shape == (0, 1, 2, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_rois_are_widened(dtype):
    features = torch.randn(1, 4, 9, 9)
    rois = random_rois(5, 1, 9).to(dtype)
    assert torch.equal(
        ps_roi_pool(features, rois, 2, 0.7), ps_roi_pool(features, rois.float(), 2, 0.7)
    )


@pytest.mark.parametrize("batch, out, height, width, count", [
    (0, 1, 4, 4, 0), (0, 1, 4, 4, 2), (1, 0, 4, 4, 2), (1, 1, 0, 4, 2), (1, 1, 4, 0, 2),
    (2, 1, 4, 4, 0),
])  # fmt: skip
def test_empty_input(batch, out, height, width, count):
    features = torch.randn(batch, out * 4, height, width, requires_grad=True)
    pooled = ps_roi_pool(features, torch.rand(count, 5), 2)
    assert pooled.shape == (count, out, 2, 2)
    assert not pooled.any()
    pooled.sum().backward()
    assert not features.grad.any()


boxes_strategy = st.lists(
    st.tuples(st.integers(0, 1), *[st.floats(-20, 90, width=32)] * 4), min_size=1, max_size=6
)


@settings(max_examples=25, deadline=None)
@given(boxes_strategy, st.sampled_from(["rfcn", "torchvision"]), st.randoms())
def test_constant_features_and_order_of_rois(rows, convention, random):
    rois = torch.tensor(rows)
    constant = ps_roi_pool(torch.full((2, 9, 9, 11), 2.0), rois, 3, 1 / 8, convention)
    assert set(constant.unique().tolist()) <= {0.0, 2.0}
    features = torch.randn(2, 9, 9, 11, generator=torch.Generator().manual_seed(0))
    order = random.sample(range(len(rows)), len(rows))
    pooled = ps_roi_pool(features, rois, 3, 1 / 8, convention)
    assert torch.equal(ps_roi_pool(features, rois[order], 3, 1 / 8, convention), pooled[order])


def test_is_public():
    assert lesionkit.ps_roi_pool is ps_roi_pool
