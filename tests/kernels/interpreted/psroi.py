"""The Triton kernels of PSROI pooling on CPU tensors, by the tests of the CPU's kernels."""

import pytest
import torch

from lesionkit.ops import ps_roi_pool, use_backend
from lesionkit.ops.backends import resolve
from tests.ops.test_psroi import (  # noqa: F401
    random_rois,
    test_bad_feature_stays_in_its_bins,
    test_empty_input,
    test_output_channel_reads_its_group,
    test_rounding_and_clipping,
    test_sample_index_is_truncated,
    test_scaling_comes_after_rounding,
    test_torchvision_convention_worked_by_hand,
    test_torchvision_rounding_and_clipping,
    test_two_by_two_bins_worked_by_hand,
)
from tests.ops.test_psroi_cpu import (  # noqa: F401
    assert_agrees,
    test_rois_get_no_gradient,
    test_second_derivative_is_refused,
)

OPS = torch.ops.lesionkit_triton
BAD = (float("nan"), float("inf"), -float("inf"))


@pytest.fixture(autouse=True)
def backend():
    torch.manual_seed(0)
    with use_backend("triton"):
        assert resolve(torch.empty(1)) == "triton"
        yield


@pytest.mark.parametrize("convention", ["rfcn", "torchvision"])
@pytest.mark.parametrize("rois_type", [torch.float64, torch.float32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_types(dtype, rois_type, convention):
    features = torch.randn(2, 2 * 9, 7, 11).to(dtype)
    assert_agrees(features, random_rois(9, 2, 80, rois_type), 3, 1 / 8, convention)


# One cell, primes, several tiles of a map, several groups of channels; more rois than are searched
# at a time.
@pytest.mark.parametrize(
    "batch, channels, bins, height, width, rois",
    [(1, 3, 1, 1, 1, 5), (3, 2, 2, 5, 3, 9), (1, 9, 1, 37, 11, 9), (1, 1, 2, 9, 19, 80)],
)
def test_shapes(batch, channels, bins, height, width, rois):
    features = torch.randn(batch, channels * bins**2, height, width)
    boxes = random_rois(rois, batch, 4 * max(height, width))
    boxes[0] = torch.tensor([0.0, -9, -9, 4 * width + 9, 4 * height + 9])
    assert_agrees(features, boxes, bins, 1 / 4)


def test_unusable_rois_give_zeros_and_no_gradient():
    bad = [[0.0, *(value if i == k else 1.0 for i in range(4))] for k in range(4) for value in BAD]
    bad += [[index, 1, 1, 5, 5] for index in (*BAD, -1, -0.5, 2, 2.5, 1e30, -1e30)]
    bad += [[0, 3e38, 1, 3e38, 5], [0, -3e38 / 4, 1, 3e38 / 4, 5]]  # infinite when scaled
    good = torch.tensor([[0.0, 1, 0, 4, 5], [1, 0, 1, 3, 3]])
    rois = torch.cat([good[:1], torch.tensor(bad), good[1:]])
    features = torch.randn(2, 4, 24, 24, requires_grad=True)
    for convention in ("rfcn", "torchvision"):
        pooled = ps_roi_pool(features, rois, 2, 4.0, convention)
        alone = ps_roi_pool(features, good, 2, 4.0, convention)
        assert not pooled[1:-1].any()
        assert torch.equal(pooled[[0, -1]], alone)
        gradient = torch.autograd.grad(pooled.sum(), features)[0]
        assert torch.equal(gradient, torch.autograd.grad(alone.sum(), features)[0])


def test_edges_are_not_contracted():
    """The last edge 7 * bin + start, fused into one rounding, would cover another cell."""
    x1, width = torch.meshgrid(torch.arange(60.0), torch.arange(1.0, 90.0), indexing="ij")
    x1, x2 = x1.flatten(), (x1 + width).flatten()
    start, end = x1 * torch.tensor(0.1), (x2 + 1) * torch.tensor(0.1)
    step = (end - start) / torch.tensor(7.0)
    fused = (7 * step.double() + start.double()).float()
    moved = (torch.ceil(7 * step + start) != torch.ceil(fused)).nonzero().flatten()
    assert len(moved) > 10
    zeros = torch.zeros(len(moved))
    rois = torch.stack([zeros, x1[moved], zeros, x2[moved], zeros + 9], dim=1)
    assert_agrees(torch.randn(1, 49, 2, 16), rois, 7, 0.1)


def test_constant_features_give_their_constant():
    rois = random_rois(40, 2, 80)
    for convention in ("rfcn", "torchvision"):
        pooled = ps_roi_pool(torch.full((2, 9, 9, 11), 2.0), rois, 3, 1 / 8, convention)
        assert set(pooled.unique().tolist()) <= {0.0, 2.0}


def test_backward_adds_rois_in_their_order():
    """Sums that depend on their order come out as in a loop over the rois."""
    rois = torch.zeros(100, 5)  # one cell, 100 times
    grad = torch.randn(100, 1, 1, 1) * 10 ** torch.linspace(-4, 4, 100).view(-1, 1, 1, 1)
    grad = grad[torch.randperm(100)]
    expected = torch.zeros(())
    for value in grad.flatten():
        expected += value
    assert expected != grad.flip(0).cumsum(0)[-1]
    result = OPS.ps_roi_pool_backward(grad, rois, 1, 1, 1, 1.0, "rfcn")
    assert result.item() == expected.item()


def test_layouts():
    features = torch.randn(2, 2 * 4, 5, 6).to(memory_format=torch.channels_last)
    assert_agrees(features, random_rois(8, 2, 40).repeat_interleave(2, dim=0)[::2], 2)


def test_opcheck():
    features = torch.randn(2, 5, 6, 8).permute(0, 3, 1, 2).requires_grad_()
    rois = random_rois(3, 2, 40)
    calls = [
        (OPS.ps_roi_pool.default, (features, rois, 2, 1 / 8, "rfcn")),
        (OPS.ps_roi_pool_backward.default, (torch.randn(3, 2, 2, 2), rois, 2, 5, 6, 0.5, "rfcn")),
    ]
    for op, arguments in calls:
        results = torch.library.opcheck(op, arguments)
        assert len(results) == 4
        assert set(results.values()) == {"SUCCESS"}


def test_fullgraph_compile():
    def layer(features, rois):
        return ps_roi_pool(features * 2, rois, 2).sin()

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for count, height in ((4, 5), (6, 4)):
        features, rois = torch.randn(2, 8, height, 5), random_rois(count, 2, 40)
        results = []
        for function in (compiled, layer):
            leaf = features.clone().requires_grad_()
            pooled = function(leaf, rois)
            pooled.sum().backward()
            results.append((pooled, leaf.grad))
        for actual, expected in zip(*results, strict=True):
            torch.testing.assert_close(actual, expected)


ROIS = torch.zeros(3, 5)


@pytest.mark.parametrize(
    "op, arguments",
    [
        ("ps_roi_pool", (torch.zeros(2, 8, 5, 6), ROIS[:, 1:], 2, 0.5, "rfcn")),
        ("ps_roi_pool", (torch.zeros(2, 8, 5, 6), ROIS.half(), 2, 0.5, "rfcn")),
        ("ps_roi_pool", (torch.zeros(2, 8, 5, 6), ROIS, 3, 0.5, "rfcn")),
        ("ps_roi_pool", (torch.zeros(2, 8, 5, 6), ROIS, 0, 0.5, "rfcn")),
        ("ps_roi_pool", (torch.zeros(2, 8, 5, 6), ROIS, 2, 0.5, "mxnet")),
        ("ps_roi_pool_backward", (torch.zeros(2, 2, 2, 2), ROIS, 2, 5, 6, 0.5, "rfcn")),
        ("ps_roi_pool_backward", (torch.zeros(3, 2, 2, 3), ROIS, 2, 5, 6, 0.5, "rfcn")),
    ],
)
def test_direct_calls_are_refused(op, arguments):
    with pytest.raises(ValueError, match="must be"):
        getattr(OPS, op)(*arguments)
