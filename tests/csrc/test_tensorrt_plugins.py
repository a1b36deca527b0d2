"""The plugins' answers to TensorRT: shapes, types and formats, and what they refuse."""

import pytest
import torch

from tests.csrc.tensorrt_registry import FIELDS
from tests.csrc.tensorrt_tools import (
    HWC8,
    INT32,
    LIBRARY,
    LINEAR,
    TYPES,
    Library,
    needs_headers,
    needs_library,
)

pytestmark = [needs_headers, needs_library]

FLOAT, HALF, BFLOAT = TYPES.values()
ATTENTION = list(FIELDS)[:3]
SHAPE = (2, 5, 8, 6, 4)


@pytest.fixture(scope="module")
def library():
    return Library(LIBRARY)


@pytest.fixture(autouse=True)
def nothing_logged_before(library):
    library.log()


@pytest.fixture(params=FIELDS)
def plugin(request, library):
    plugin = library.create(request.param, **FIELDS[request.param])
    assert plugin, library.log()
    plugin.name = request.param
    yield plugin
    plugin.destroy()


@pytest.fixture(params=ATTENTION)
def attention(request, library):
    plugin = library.create(request.param, **FIELDS[request.param])
    plugin.inputs = 3 if request.param == "DualAttention" else 2
    return plugin


@pytest.fixture
def pooling(library):
    return library.create("PSRoIPool", **FIELDS["PSRoIPool"])


def test_creators(library):
    assert library.creators() == [f"{name} 1 lesionkit PLUGIN CREATOR_V3ONE 1.0" for name in FIELDS]


def test_interfaces_reach_back_to_tensorrt_10(plugin):
    assert plugin.describe() == (
        "PLUGIN 1.0, PLUGIN_V3ONE_CORE 1.0, PLUGIN_V3ONE_BUILD 1.0, PLUGIN_V3ONE_RUNTIME 1.0, "
        f"{plugin.name} 1 lesionkit, outputs 1, workspace 0"
    )


def test_output_of_attention_is_like_x(attention):
    assert attention.output_shape(*[SHAPE] * attention.inputs) == "2,5,8,6,4"
    dynamic = (-1, 5, 8, -1, -1)
    assert attention.output_shape(dynamic, *[SHAPE] * (attention.inputs - 1)) == (
        "i0d0,5,8,i0d3,i0d4"
    )


def test_output_of_pooling(pooling):
    assert pooling.output_shape((2, 490, 64, 48), (300, 5)) == "300,10,7,7"
    assert pooling.output_shape((-1, 490, -1, -1), (-1, 5)) == "i1d0,10,7,7"
    assert pooling.output_shape((-1,) * 4, (-1, -1)) == "i1d0,(i0d1 // 49),7,7"


def test_attention_refuses_shapes(attention, library):
    logits = [SHAPE] * (attention.inputs - 2)
    assert attention.output_shape(SHAPE[1:], *logits, SHAPE[1:]) is None
    assert library.log()[0].endswith("x must be [B, M, D, H, W], got [5, 8, 6, 4]")
    assert attention.output_shape((-1, *SHAPE[1:]), *logits, (2, 5, 8, 6, 5)) is None
    (message,) = library.log()
    assert message.startswith("1 lesionkit ")
    assert "logits must have x's shape [?, 5, 8, 6, 4], got [2, 5, 8, 6, 5]" in message
    assert attention.output_shape(SHAPE) is None
    assert "the inputs are x, " in library.log()[0]


def test_dual_attention_takes_as_many_images_as_its_kernel(library):
    plugin = library.create("DualAttention", **FIELDS["DualAttention"])
    assert plugin.output_shape(*[(1, 128, 8, 6, 4)] * 3) == "1,128,8,6,4"
    assert plugin.output_shape(*[(1, 129, 8, 6, 4)] * 3) is None
    assert "x must have at most 128 images (M), got [1, 129, 8, 6, 4]" in library.log()[0]


@pytest.mark.parametrize(
    "features, rois, message",
    [
        ((490, 8, 8), (3, 5), "features must be [B, C*G*G, H, W], got [490, 8, 8]"),
        ((2, 480, 8, 8), (3, 5), "the square of output_size 7 must divide the channels of"),
        ((2, 490, 8, 2**30 + 1), (3, 5), "features must have extents up to 1073741824, got"),
        ((2, 490, 8, 8), (3, 4), "rois must be [K, 5], got [3, 4]"),
        ((2, 490, 8, 8), (1, 3, 5), "rois must be [K, 5], got [1, 3, 5]"),
    ],
)
def test_pooling_refuses_shapes(pooling, library, features, rois, message):
    assert pooling.output_shape(features, rois) is None
    assert message in library.log()[0]
    assert pooling.shape_change(features, rois) != 0
    assert message in library.log()[0]


def test_shapes_are_checked_again_before_running(attention, library):
    assert attention.shape_change(*[SHAPE] * attention.inputs) == 0
    assert library.log() == []
    assert attention.shape_change(SHAPE, *[(2, 5, 8, 6, 3)] * (attention.inputs - 1)) != 0
    assert "must have x's shape [2, 5, 8, 6, 4], got [2, 5, 8, 6, 3]" in library.log()[0]


@pytest.mark.parametrize("kind", TYPES.values())
def test_types_of_attention(attention, library, kind):
    assert attention.output_type(*[kind] * attention.inputs) == kind
    assert library.log() == []
    other = HALF if kind == FLOAT else FLOAT
    assert attention.output_type(kind, *[other] * (attention.inputs - 1)) == kind
    message = library.log()[0]
    assert message.startswith("2 ")
    assert message.endswith("a strongly typed network has to cast it")


@pytest.mark.parametrize("kind", TYPES.values())
def test_types_of_pooling(pooling, library, kind):
    assert pooling.output_type(kind, FLOAT) == kind
    assert library.log() == []
    assert pooling.output_type(kind, HALF) == kind
    assert "rois is float16 and must become float32" in library.log()[0]


def test_other_types_are_refused(plugin, library):
    inputs = 3 if plugin.name == "DualAttention" else 2
    assert plugin.output_type(*[INT32] * inputs) == -1
    assert "must be float32, float16 or bfloat16, got int32" in library.log()[0]


def test_formats_of_attention(attention):
    every = [(kind, order) for kind in range(9) for order in range(12)]
    taken = [one for one in every if attention.supports(*[one] * (attention.inputs + 1))]
    assert taken == [(FLOAT, LINEAR), (HALF, LINEAR), (BFLOAT, LINEAR)]
    same = [(HALF, LINEAR)] * (attention.inputs + 1)
    for position in range(len(same)):
        for other in [(FLOAT, LINEAR), (HALF, HWC8)]:
            assert not attention.supports(*same[:position], other, *same[position + 1 :])


def test_formats_of_pooling(pooling):
    for kind in (FLOAT, HALF, BFLOAT):
        assert pooling.supports((kind, LINEAR), (FLOAT, LINEAR), (kind, LINEAR))
    assert not pooling.supports((HALF, LINEAR), (HALF, LINEAR), (HALF, LINEAR))
    assert not pooling.supports((HALF, LINEAR), (FLOAT, LINEAR), (FLOAT, LINEAR))
    assert not pooling.supports((INT32, LINEAR), (FLOAT, LINEAR), (INT32, LINEAR))
    assert not pooling.supports((FLOAT, HWC8), (FLOAT, LINEAR), (FLOAT, HWC8))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_enqueue_without_a_driver_is_an_error(plugin, library):
    if plugin.name == "PSRoIPool":
        inputs, output = [torch.ones(1, 49, 4, 4), torch.zeros(2, 5)], torch.ones(2, 1, 7, 7)
    else:
        inputs = [torch.ones(SHAPE)] * (3 if plugin.name == "DualAttention" else 2)
        output = torch.ones(SHAPE)
    assert plugin.enqueue(inputs, output) != 0
    (line,) = library.log()
    assert line.startswith(f"1 lesionkit {plugin.name}: could not be launched: ")
    assert "driver" in line
    assert output.eq(1).all()
