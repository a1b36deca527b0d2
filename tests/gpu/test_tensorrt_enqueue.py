"""The built TensorRT plugins on the GPU, without TensorRT: what enqueue computes; CUDA graphs."""

import pytest
import torch

from tests.csrc.tensorrt_enqueue import (
    ATTENTION,
    POOLINGS,
    SHAPES,
    attention_case,
    pooling_case,
    result_of,
)
from tests.csrc.tensorrt_tools import LIBRARY, TYPES, Library, needs_headers, needs_library
from tests.gpu import gpu
from tests.tolerances import assert_close

pytestmark = [*gpu, needs_headers, needs_library]


@pytest.fixture(scope="module")
def library():
    return Library(LIBRARY)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def current_stream() -> int:
    return torch.cuda.current_stream().cuda_stream


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (1, 3, 512, 64, 64)])
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_equals_the_reference(library, name, shape, dtype):
    case = attention_case(library, name, shape, dtype, "cuda")
    assert_close(result_of(case, current_stream()).cpu(), case[-1])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("pooling", [*POOLINGS, (1, 30, 7, 64, 64, 300, 0.125, "rfcn")])
def test_pooling_equals_the_reference(library, pooling, dtype):
    case = pooling_case(library, pooling, dtype, "cuda")
    assert_close(result_of(case, current_stream()).cpu(), case[-1])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", [*ATTENTION, "PSRoIPool"])
def test_enqueue_in_a_graph(library, name, dtype):
    def case():
        if name == "PSRoIPool":
            return pooling_case(library, POOLINGS[0], dtype, "cuda")
        return attention_case(library, name, SHAPES[0], dtype, "cuda")

    plugin, inputs, _ = case()
    output = result_of((plugin, inputs, case()[-1]), current_stream())
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        assert plugin.enqueue(inputs, output, current_stream()) == 0
    _, others, expected = case()
    for tensor, other in zip(inputs, others, strict=True):
        tensor.copy_(other)
    output.fill_(torch.nan)
    graph.replay()
    assert_close(output.cpu(), expected)


def test_enqueue_runs_on_the_stream_that_it_is_given(library):
    case = attention_case(library, "SpatialAttention", (1, 3, 64, 64, 64), torch.float32, "cuda")
    plugin, inputs, expected = case
    output = torch.zeros_like(inputs[0])
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        late = [tensor.clone() for tensor in inputs]  # queued on this stream, as the plugin is
        torch.cuda._sleep(100_000_000)
        assert plugin.enqueue(late, output, side.cuda_stream) == 0
    assert not output.cpu().any()  # the other stream still sleeps
    side.synchronize()
    assert_close(output.cpu(), expected)
