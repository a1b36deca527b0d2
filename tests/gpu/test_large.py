"""Tensors of more than 2^31 elements, peak memory, and CuPy arrays."""

import pytest
import torch

import lesionkit
from bench.gpu.timing import peak_bytes
from tests.gpu import BACKENDS, gpu
from tests.tolerances import assert_close

pytestmark = gpu
PERIOD = 15_485_863  # a prime


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request):
    torch.cuda.empty_cache()
    with lesionkit.use_backend(request.param):
        yield request.param


def enough_memory(gigabytes):
    if torch.cuda.mem_get_info()[0] < gigabytes * 1e9:
        pytest.skip(f"needs {gigabytes} GB of GPU memory")


def large(shape):
    """Random bfloat16 numbers, the first of them again and again.

    The period is prime: an offset that lost its high bits, 2^31 or 2^32 numbers or bytes, meets
    other numbers.
    """
    numel = torch.Size(shape).numel()
    drawn = torch.randn(PERIOD, device="cuda").bfloat16()
    return drawn.repeat(-(-numel // drawn.numel()))[:numel].view(shape)


@pytest.mark.parametrize("name", ["contextual", "spatial", "dual"])
def test_attention_past_2_to_the_31_elements(name):
    many = 2 if name == "dual" else 1
    enough_memory(45 + 18 * (many - 1))
    op = getattr(lesionkit, f"{name}_attention")
    reference = getattr(lesionkit, f"{name}_attention_reference")
    x = large((2, 3, 350, 1024, 1024))  # 2.2e9 elements; the second sample lies beyond 2^30
    assert x.numel() > 2**31
    logits = [x.flip(2), x.flip(1)][:many]
    y = op(x, *logits)
    for part in (
        (slice(0, 1), slice(None), slice(0, 1)),
        (slice(1, 2), slice(None), slice(-1, None)),  # the last planes
    ):
        assert_close(y[part], reference(*(t[part].double() for t in (x, *logits))))
    del y
    x.requires_grad_()
    leaves = (x, *(tensor.requires_grad_() for tensor in logits))
    gradients = torch.autograd.grad(op(*leaves), leaves, logits[0].detach())
    part = (slice(1, 2), slice(None), slice(-1, None))
    small = [leaf.detach()[part].double().requires_grad_() for leaf in leaves]
    expected = torch.autograd.grad(reference(*small), small, small[1].detach())
    for result, oracle in zip(gradients, expected, strict=True):
        assert_close(result[part], oracle)


def test_pooling_past_2_to_the_31_elements():
    enough_memory(15)
    features = large((1, 4 * 513, 1024, 1024))
    assert features.numel() > 2**31
    rois = torch.tensor([[0.0, 100, 200, 900, 700], [0, 8, 8, 8000, 8000]], device="cuda")
    pooled = lesionkit.ps_roi_pool(features, rois, 2)
    last = lesionkit.ps_roi_pool_reference(features[:, -4:].double(), rois, 2)
    assert_close(pooled[:, -1:], last)
    features.requires_grad_()
    (gradient,) = torch.autograd.grad(lesionkit.ps_roi_pool(features, rois, 2).sum(), features)
    small = features.detach()[:, -4:].double().requires_grad_()
    pooled = lesionkit.ps_roi_pool_reference(small, rois, 2)
    assert_close(gradient[:, -4:], torch.autograd.grad(pooled.sum(), small)[0])


def test_peak_memory_is_less_than_half_of_eager():
    shape = (1, 9, 512, 64, 64)
    x, logits = (torch.randn(shape, device="cuda").requires_grad_() for _ in range(2))
    grad = torch.randn(shape, device="cuda")

    def step(op):
        return lambda: torch.autograd.grad(op(x, logits), (x, logits), grad)

    ours = peak_bytes(step(lesionkit.contextual_attention), ())
    eager = peak_bytes(step(lesionkit.contextual_attention_reference), ())
    assert ours <= 0.45 * eager


def test_cupy_arrays_in_and_out():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    x, logits = (torch.randn(1, 3, 8, 16, 16, device="cuda") for _ in range(2))
    arrays = [cupy.from_dlpack(tensor) for tensor in (x, logits)]
    for name in ("contextual", "spatial"):
        op = getattr(lesionkit, f"{name}_attention")
        result = op(*arrays)
        assert isinstance(result, cupy.ndarray)
        assert torch.equal(torch.from_dlpack(result), op(x, logits))
    features = torch.randn(1, 49, 20, 20, device="cuda")
    rois = torch.tensor([[0.0, 8, 8, 100, 120]], device="cuda")
    result = lesionkit.ps_roi_pool(cupy.from_dlpack(features), cupy.from_dlpack(rois))
    assert torch.equal(torch.from_dlpack(result), lesionkit.ps_roi_pool(features, rois))
