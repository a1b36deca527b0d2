"""The plugins' enqueue on CPU memory: the plugins' sources upon the emulated launchers."""

import pytest
import torch

from tests.csrc import emulated, tensorrt_enqueue
from tests.csrc.tensorrt_enqueue import ATTENTION, POOLINGS, SHAPES, result_of
from tests.csrc.tensorrt_tools import (
    HARNESS,
    TYPES,
    Library,
    compile_cpp,
    needs_headers,
)
from tests.tolerances import assert_close

pytestmark = needs_headers
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def launchers():
    return emulated.emulator()


@pytest.fixture(scope="module")
def library(launchers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    sources = sorted((emulated.ROOT / "csrc/tensorrt").glob("*.cpp"))
    path = folder / "plugins.so"
    compile_cpp("-shared", *sources, HARNESS / "error.cpp", emulated.library_path(), "-o", path)
    return Library(path)


@pytest.fixture(autouse=True)
def seed(launchers):
    torch.manual_seed(0)
    launchers.launches()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_equals_the_reference(library, launchers, name, shape, dtype):
    case = tensorrt_enqueue.attention_case(library, name, shape, dtype, CPU)
    assert_close(result_of(case), case[-1])
    assert len(launchers.launches()) == (0 not in shape)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_equals_the_reference(library, launchers, pooling, dtype):
    case = tensorrt_enqueue.pooling_case(library, pooling, dtype, CPU)
    assert_close(result_of(case), case[-1])
    assert len(launchers.launches()) == (len(case[-1]) > 0)


def test_a_clone_computes_the_same(library):
    plugin, inputs, expected = tensorrt_enqueue.pooling_case(
        library, POOLINGS[1], torch.float32, CPU
    )
    clone = plugin.attached()
    plugin.destroy()
    assert_close(result_of((clone, inputs, expected)), expected)


def test_nothing_is_launched_for_shapes_that_do_not_fit(library, launchers):
    plugin = library.create("ContextualAttention", temperature=2.0)
    x, logits = torch.ones(1, 3, 2, 4, 4), torch.ones(1, 3, 2, 4, 3)
    output = torch.zeros_like(x)
    assert plugin.enqueue([x, logits], output) != 0
    assert "logits must have x's shape" in library.log()[0]
    assert launchers.launches() == []
    assert not output.any()


def test_what_the_launcher_refuses_is_an_error(library):
    plugin = library.create("PSRoIPool", output_size=1, spatial_scale=1.0, convention="rfcn")
    features = torch.ones(1, 1, 2, 2).double()
    inputs, output = [features, torch.zeros(1, 5)], torch.zeros(1, 1, 1, 1)
    assert plugin.enqueue(inputs, output) != 0
    assert library.log() == [
        "1 lesionkit PSRoIPool: could not be launched: refused by the emulated launcher"
    ]
