"""CUDA graphs, streams, fullgraph compile, and the same bits in every run."""

import pytest
import torch

import lesionkit
from bench.psroi import lesion_boxes
from tests.gpu import BACKENDS, DTYPES, gpu

pytestmark = gpu
ATTENTION = {"contextual": 1, "spatial": 1, "dual": 2}
SHAPES = [(1, 5, 16, 32, 32), (2, 3, 5, 7, 9)]


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request):
    with lesionkit.use_backend(request.param):
        yield request.param


def attention(name):
    return getattr(lesionkit, f"{name}_attention")


def tensors(count, shape, dtype=torch.float32):
    return [torch.randn(shape, device="cuda").to(dtype).requires_grad_() for _ in range(count)]


def pooling(dtype=torch.float32):
    features = torch.randn(2, 4 * 49, 40, 40, device="cuda").to(dtype).requires_grad_()
    rois = lesion_boxes(64).cuda()
    rois[::3, 0] = 1
    return features, rois


def captured(function):
    """Runs `function` in a graph once; what replay() runs again and the results it writes."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return graph, results


def check_capture(leaves, function):
    graph, results = captured(function)
    with torch.no_grad():
        for leaf in leaves:
            leaf.copy_(torch.randn_like(leaf))
    graph.replay()
    torch.cuda.synchronize()
    for result, expected in zip(results, function(), strict=True):
        assert torch.equal(result, expected)


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize("shape", SHAPES)
def test_attention_in_a_graph(name, shape):
    leaves = tensors(1 + ATTENTION[name], shape)
    grad = torch.randn(shape, device="cuda")

    def step():
        y = attention(name)(*leaves)
        return [y.detach(), *torch.autograd.grad(y, leaves, grad)]

    check_capture(leaves, step)


def test_pooling_in_a_graph():
    features, rois = pooling()

    def step():
        pooled = lesionkit.ps_roi_pool(features, rois)
        return [pooled.detach(), *torch.autograd.grad(pooled.square().sum(), features)]

    check_capture([features], step)


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_on_a_stream_of_its_own(name):
    inputs = tensors(1 + ATTENTION[name], (1, 5, 64, 32, 32))
    expected = attention(name)(*inputs)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        late = [tensor.detach().clone().mul_(1) for tensor in inputs]  # queued on this stream
        result = attention(name)(*late)
    side.synchronize()
    assert torch.equal(result, expected)


@pytest.mark.parametrize("name", ATTENTION)
def test_no_call_waits_for_the_device(name):
    inputs = tensors(1 + ATTENTION[name], (1, 3, 8, 16, 16))
    features, rois = pooling()
    attention(name)(*inputs)  # what the first call compiles may wait
    lesionkit.ps_roi_pool(features, rois)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        y, pooled = attention(name)(*inputs), lesionkit.ps_roi_pool(features, rois)
        torch.autograd.grad(y, inputs, torch.ones_like(y))
        torch.autograd.grad(pooled, features, torch.ones_like(pooled))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_compiles_as_one_graph(name, dtype):
    inputs = tensors(1 + ATTENTION[name], (1, 3, 4, 8, 8), dtype)

    def layer(x, *logits):
        return attention(name)(x * 2, *(tensor + 1 for tensor in logits)).sin()

    compiled = torch.compile(layer, fullgraph=True)
    for result, expected in zip(
        *(torch.autograd.grad(f(*inputs).sum(), inputs) for f in (compiled, layer)), strict=True
    ):
        torch.testing.assert_close(result, expected, rtol=2e-2, atol=2e-2)
    torch._dynamo.reset()


def test_pooling_compiles_as_one_graph():
    features, rois = pooling()

    def head(x):
        return lesionkit.ps_roi_pool(x * 2, rois).mean((2, 3))

    compiled = torch.compile(head, fullgraph=True)
    torch.testing.assert_close(compiled(features), head(features))
    torch._dynamo.reset()


@pytest.mark.parametrize("dtype", DTYPES)
def test_twenty_runs_give_the_same_bits(dtype):
    features, rois = pooling(dtype)
    inputs = tensors(3, (1, 5, 8, 33, 17), dtype)

    def run():
        pooled = lesionkit.ps_roi_pool(features, rois)
        y = lesionkit.dual_attention(*inputs)
        z = lesionkit.contextual_attention(*inputs[:2])
        w = lesionkit.spatial_attention(*inputs[:2])
        return [
            *torch.autograd.grad(pooled, features, torch.ones_like(pooled)),
            *torch.autograd.grad(y, inputs, torch.ones_like(y)),
            *torch.autograd.grad(z + w, inputs[:2], torch.ones_like(y)),
        ]

    first = run()
    for _ in range(19):
        for result, expected in zip(run(), first, strict=True):
            assert torch.equal(result, expected)
