"""The Triton attention kernels on CPU tensors, by what every attention op must hold.

The interpreter is slow, by the program: shapes are small, and so are the tiles of loops.
"""

import numpy as np
import pytest
import torch
from lesionkit.kernels.common.triton import maximum
from lesionkit.kernels.contextual import triton as contextual
from lesionkit.kernels.dual import triton as dual
from lesionkit.kernels.spatial import triton as spatial
from triton.runtime.interpreter import ReduceOps

import lesionkit
from lesionkit.ops.backends import resolve
from tests.ops.attention_contract import (
    INF,
    LAYOUTS,
    NAN,
    AttentionContract,
    inputs,
    with_gradients,
)

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
SHAPES = [
    (1, 1, 1, 1, 1),
    (1, 2, 3, 1, 1),
    (2, 3, 2, 5, 7),
    (1, 4, 1, 1, 13),
    (1, 5, 3, 4, 4),
    (1, 7, 2, 7, 11),
    (2, 9, 1, 3, 11),
    (1, 2, 1, 23, 24),  # more cells than a warp's 512
    (1, 15, 1, 3, 3),
]
BAD = [[NAN], [INF], [-INF], [INF, -INF], [NAN, INF], [-INF, -INF], [INF, INF]]


@pytest.fixture(autouse=True)
def quick_reduction(request, monkeypatch):
    """The interpreter calls a reduction's function once a number; NumPy does the same at once."""
    slow = ReduceOps.generic_reduce

    def reduce(self, tensors):
        if self.combine_fn is not maximum:
            return slow(self, tensors)
        return self.to_tensor(
            np.maximum.reduce(tensors[0].handle.data, axis=self.axis), tensors[0].dtype
        )

    if "as_written" not in request.node.name:
        monkeypatch.setattr(ReduceOps, "generic_reduce", reduce)


class Interpreted(AttentionContract):
    # They need float64, large tensors or threads.
    test_results_of_16_mib_are_written_past_the_caches = None
    test_gradcheck = None
    test_properties = None
    test_float_gradients_are_the_same_for_any_number_of_threads = None

    @pytest.fixture(autouse=True)
    def backend(self):
        with lesionkit.use_backend("triton"):
            assert resolve(torch.empty(1)) == "triton"
            yield

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_matches_reference(self, shape, dtype):
        self.check(inputs(self.num_logits, shape, dtype))
        self.check(inputs(self.num_logits, shape, dtype, ties=True))

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("logits_dtype", FLOATS)
    def test_logits_may_have_another_type(self, dtype, logits_dtype):
        self.check(inputs(self.num_logits, (1, 3, 2, 3, 5), dtype, logits_dtype, ties=True))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("bad", BAD)
    def test_bad_logits(self, bad, dtype):
        for which in range(1, self.num_logits + 1):
            tensors = inputs(self.num_logits, (1, 3, 2, 2, 9), dtype, ties=True)
            for image, value in enumerate(bad):
                tensors[which][0, image, 1, 1, 4] = value
                tensors[which][0, 0, 0, 0, image] = value
            self.check_bad(tensors)

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_any_layout(self, layout):
        tensors = inputs(self.num_logits, (2, 3, 1, 3, 4), torch.bfloat16)
        expected = with_gradients(type(self).op, tensors)
        actual = with_gradients(type(self).op, [LAYOUTS[layout](tensor) for tensor in tensors])
        for result, oracle in zip(actual, expected, strict=True):
            assert torch.equal(result, oracle)

    @pytest.mark.parametrize("bad", BAD[:3])
    def test_bad_logits_with_the_reduction_as_written(self, bad):
        self.test_bad_logits(bad, torch.float32)

    def test_opcheck(self):
        name = type(self).op.__name__
        tensors = inputs(self.num_logits, (2, 3, 2, 2, 3))
        tensors = [t.transpose(1, 4).contiguous().transpose(1, 4) for t in tensors]
        temperatures = [2.0] * self.num_logits
        op = getattr(torch.ops.lesionkit_triton, name).default
        backward = getattr(torch.ops.lesionkit_triton, f"{name}_backward").default
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        for call, arguments in ((op, leaves), (backward, [tensors[0], *tensors])):
            results = torch.library.opcheck(call, (*arguments, *temperatures))
            assert len(results) == 4
            assert set(results.values()) == {"SUCCESS"}

    def test_fullgraph_compile(self):
        def layer(x, *logits):
            return type(self).op(x * 2, *(tensor + 1 for tensor in logits)).sin()

        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        for shape in ((2, 3, 2, 2, 3), (1, 5, 1, 3, 4)):  # the second is traced with dynamic sizes
            tensors = inputs(self.num_logits, shape)
            for result, eager in zip(
                with_gradients(compiled, tensors), with_gradients(layer, tensors), strict=True
            ):
                torch.testing.assert_close(result, eager)

    def test_vmap(self):
        tensors = inputs(self.num_logits, (2, 1, 3, 2, 2, 3))
        values = torch.func.vmap(type(self).op)(*tensors)
        for index in range(2):
            assert torch.equal(values[index], type(self).op(*(t[index] for t in tensors)))


class TestContextual(Interpreted):
    op = lesionkit.contextual_attention
    reference = lesionkit.contextual_attention_reference
    groups = ((1,),)


class TestSpatial(Interpreted):
    op = lesionkit.spatial_attention
    reference = lesionkit.spatial_attention_reference
    groups = ((3, 4),)


class TestDual(Interpreted):
    op = lesionkit.dual_attention
    reference = lesionkit.dual_attention_reference
    num_logits = 2
    groups = ((1,), (3, 4))

    def test_each_set_of_logits_may_have_its_own_type(self):
        x, c, s = inputs(2, (1, 3, 1, 3, 5))
        self.check([x, c.half(), s.bfloat16()])
        self.check([x.bfloat16(), c, s.half()])


class Looped(Interpreted):
    """The kernels for what does not fit into registers, over several tiles."""

    test_any_layout = None
    test_bad_logits_with_the_reduction_as_written = None
    test_empty = None
    test_bad_arguments = None
    test_every_number_of_images = None
    test_opcheck = None
    test_fullgraph_compile = None
    test_vmap = None
    test_extreme_temperatures = None

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (1, 3, 2, 5, 7), (1, 9, 1, 3, 11)])
    def test_matches_reference(self, shape, dtype):
        self.check(inputs(self.num_logits, shape, dtype))
        self.check(inputs(self.num_logits, shape, dtype, ties=True))

    @pytest.mark.parametrize("bad", BAD)
    def test_bad_logits(self, bad):
        super().test_bad_logits(bad, torch.float32)

    @pytest.mark.parametrize("logits_dtype", FLOATS)
    def test_logits_may_have_another_type(self, logits_dtype):
        self.check(inputs(self.num_logits, (1, 3, 2, 3, 7), torch.bfloat16, logits_dtype))


class TestContextualLooped(Looped):
    op = lesionkit.contextual_attention
    reference = lesionkit.contextual_attention_reference
    groups = ((1,),)

    @pytest.fixture(autouse=True)
    def tables(self, monkeypatch):
        monkeypatch.setattr(contextual, "MOST_UNROLLED", 0)
        monkeypatch.setattr(contextual, "block_of", lambda *_: 16)


class TestSpatialLooped(Looped):
    op = lesionkit.spatial_attention
    reference = lesionkit.spatial_attention_reference
    groups = ((3, 4),)

    @pytest.fixture(autouse=True)
    def tables(self, monkeypatch):
        monkeypatch.setattr(spatial, "MOST_WARPS", 0)
        monkeypatch.setattr(spatial, "MOST_WARPS_MIXED", 0)
        monkeypatch.setattr(spatial, "LOOP_BLOCK", 16)


class TestDualLooped(Looped):
    op = lesionkit.dual_attention
    reference = lesionkit.dual_attention_reference
    num_logits = 2
    groups = ((1,), (3, 4))

    @pytest.fixture(autouse=True)
    def tables(self, monkeypatch):
        real = dual.tile_of

        def small(direction, images, cells, *sizes):
            looped, tile = real(direction, images, cells, *sizes)
            assert looped
            blocks = {"BLOCK": 16, "PLANE_BLOCK": 8, "tiles": -(-cells // 16)}
            return looped, tile | blocks | {"plane_tiles": -(-cells // 8)}

        monkeypatch.setattr(dual, "REGISTERS", 0)
        monkeypatch.setattr(dual, "tile_of", small)


class TestDualBeyondRegisters(Looped):
    """More images than are unrolled: the two other ops, one after the other."""

    op = lesionkit.dual_attention
    reference = lesionkit.dual_attention_reference
    num_logits = 2
    groups = ((1,), (3, 4))

    @pytest.fixture(autouse=True)
    def tables(self, monkeypatch):
        monkeypatch.setattr(dual, "MOST_UNROLLED", 0)
