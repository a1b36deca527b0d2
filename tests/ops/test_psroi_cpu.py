"""The C++ kernels of PSROI pooling against the reference, and their registration in torch."""

import pytest
import torch

from lesionkit.ops import ps_roi_pool, ps_roi_pool_reference, use_backend
from lesionkit.ops.backends import resolve
from tests.ops.test_psroi import random_rois
from tests.tolerances import assert_close

FORWARD = torch.ops.lesionkit.ps_roi_pool.default
BACKWARD = torch.ops.lesionkit.ps_roi_pool_backward.default

LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "permuted": lambda x: x.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0),
    "sliced": lambda x: torch.cat([x, x, x], dim=3)[..., x.shape[3] : 2 * x.shape[3]],
    "every other": lambda x: x.repeat_interleave(2, dim=2)[:, :, ::2],
}


@pytest.fixture(autouse=True)
def backend():
    torch.manual_seed(0)
    with use_backend("auto"):
        assert resolve(torch.empty(1)) == "cpu"
        yield


def assert_agrees(features, rois, *arguments):
    """Forward and backward against the reference in float64 on the same stored numbers."""
    ours = features.detach().requires_grad_()
    exact = features.detach().double().requires_grad_()
    pooled = ps_roi_pool(ours, rois, *arguments)
    expected = ps_roi_pool_reference(exact, rois, *arguments)
    assert pooled.dtype == features.dtype
    assert pooled.is_contiguous()
    assert_close(pooled, expected)
    grad = torch.randn_like(pooled)
    pooled.backward(grad)
    expected.backward(grad.double())
    assert ours.grad.dtype == features.dtype
    assert_close(ours.grad, exact.grad)


@pytest.mark.parametrize("convention", ["rfcn", "torchvision"])
@pytest.mark.parametrize("rois_type", [torch.float64, torch.float32])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_types(dtype, rois_type, convention):
    features = torch.randn(2, 2 * 9, 13, 19).to(dtype)
    assert_agrees(features, random_rois(9, 2, 140, rois_type), 3, 1 / 8, convention)


# Maps narrower than a vector, exactly one vector, primes; one bin over the whole map; many bins.
@pytest.mark.parametrize("height, width", [(1, 1), (5, 3), (3, 4), (4, 5), (2, 31), (37, 11)])
@pytest.mark.parametrize("batch, channels, bins", [(1, 3, 1), (3, 2, 2), (2, 1, 5)])
def test_shapes(batch, channels, bins, height, width):
    features = torch.randn(batch, channels * bins**2, height, width)
    rois = random_rois(9, batch, 4 * max(height, width))
    rois[0] = torch.tensor([0.0, -9, -9, 4 * width + 9, 4 * height + 9])
    assert_agrees(features, rois, bins, 1 / 4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    features = LAYOUTS[layout](torch.randn(2, 2 * 9, 8, 11))
    rois = random_rois(8, 2, 80)
    assert_agrees(features, rois, 3)
    every_other = rois.repeat_interleave(2, dim=0)[::2]
    assert torch.equal(ps_roi_pool(features, every_other, 3), ps_roi_pool(features, rois, 3))
    grad = LAYOUTS[layout](torch.randn(8, 2, 3, 3))
    geometry = rois, 2, 8, 11, 1 / 8, "rfcn"
    assert torch.equal(BACKWARD(grad, *geometry), BACKWARD(grad.contiguous(), *geometry))


def test_edges_are_not_contracted():
    """The last edge 7 * bin + start, fused into one rounding, would cover another cell."""
    x1, width = torch.meshgrid(torch.arange(60.0), torch.arange(1.0, 90.0), indexing="ij")
    x1, x2 = x1.flatten(), (x1 + width).flatten()
    scale = torch.tensor(0.1)
    start, end = x1 * scale, (x2 + 1) * scale
    step = (end - start) / torch.tensor(7.0)
    fused = (7 * step.double() + start.double()).float()
    moved = (torch.ceil(7 * step + start) != torch.ceil(fused)).nonzero().flatten()
    assert len(moved) > 10
    zeros = torch.zeros(len(moved))
    rois = torch.stack([zeros, x1[moved], zeros, x2[moved], zeros + 9], dim=1)
    assert_agrees(torch.randn(1, 49, 2, 16), rois, 7, 0.1)


@pytest.mark.parametrize("convention", ["rfcn", "torchvision"])
def test_gradcheck(convention):
    features = torch.randn(2, 2 * 4, 5, 6, dtype=torch.float64, requires_grad=True)
    rois = random_rois(6, 2, 6, torch.float64)
    rois[0] = torch.tensor([1.0, 2, 2, 9, 9])  # past the last row and column
    assert torch.autograd.gradcheck(lambda x: ps_roi_pool(x, rois, 2, 0.9, convention), features)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_opcheck(dtype):
    features = LAYOUTS["permuted"](torch.randn(2, 8, 5, 6).to(dtype)).requires_grad_()
    rois = random_rois(3, 2, 40)
    results = torch.library.opcheck(FORWARD, (features, rois, 2, 1 / 8, "rfcn"))
    grad = torch.randn(3, 2, 2, 2).to(dtype)
    backward = torch.library.opcheck(BACKWARD, (grad, rois, 2, 5, 6, 1 / 8, "rfcn"))
    for result in (results, backward):
        assert len(result) == 4
        assert set(result.values()) == {"SUCCESS"}


@pytest.mark.parametrize("dynamic", [False, True])
def test_fullgraph_compile(dynamic):
    def layer(features, rois):
        return ps_roi_pool(features * 2, rois, 2).sin()

    compiled = torch.compile(layer, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for count, height in ((4, 9), (6, 7)):
        features, rois = torch.randn(2, 8, height, 9), random_rois(count, 2, 60)
        results = []
        for function in (compiled, layer):
            leaf = features.clone().requires_grad_()
            pooled = function(leaf, rois)
            pooled.sum().backward()
            results.append((pooled, leaf.grad))
        for actual, expected in zip(*results, strict=True):
            torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_backward_is_bit_identical_in_every_run(dtype):
    features = torch.randn(2, 4 * 49, 24, 31).to(dtype).requires_grad_()
    rois = random_rois(40, 2, 200)
    threads = torch.get_num_threads()
    try:
        grad = torch.randn(40, 4, 7, 7).to(dtype)
        gradients = []
        for run in range(20):
            torch.set_num_threads((1, 2, 4)[run % 3])
            gradients.append(torch.autograd.grad(ps_roi_pool(features, rois), features, grad)[0])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


def test_rois_of_mixed_samples_keep_their_order():
    features = torch.randn(3, 4, 6, 6, requires_grad=True)
    rois = random_rois(30, 3, 6)
    pooled = ps_roi_pool(features, rois, 2, 1.0)
    for k, roi in enumerate(rois):
        assert torch.equal(pooled[k : k + 1], ps_roi_pool(features, roi[None], 2, 1.0))


def test_second_derivative_is_refused():
    features = torch.randn(1, 4, 5, 5, requires_grad=True)
    pooled = ps_roi_pool(features, random_rois(2, 1, 40), 2)
    (first,) = torch.autograd.grad(pooled.square().sum(), features, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        first.sum().backward()


def test_rois_get_no_gradient():
    rois = random_rois(2, 1, 40).requires_grad_()
    ps_roi_pool(torch.randn(1, 4, 5, 5, requires_grad=True), rois, 2).sum().backward()
    assert rois.grad is None


def test_torch_func_differentiates_it():
    features, rois = (
        torch.randn(2, 8, 6, 7, dtype=torch.float64),
        torch.tensor([[1, 0, 3, 30, 40.0]]),
    )

    def total(x):
        return ps_roi_pool(x, rois, 2).square().sum()

    leaf = features.clone().requires_grad_()
    (expected,) = torch.autograd.grad(total(leaf), leaf)
    assert torch.equal(torch.func.grad(total)(features), expected)
