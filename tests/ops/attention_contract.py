"""What every attention op must hold; each op's test class adds what is its own.

The oracle is the op's reference in float64 on the same, already rounded, inputs.
"""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lesionkit
from tests.ops.attention_inputs import inputs, with_gradients
from tests.tolerances import assert_close

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INF, NAN = math.inf, math.nan
SHAPES = [
    (1, 1, 1, 1, 1),
    (1, 2, 3, 1, 1),
    (2, 3, 2, 5, 7),
    (1, 4, 1, 1, 13),
    (1, 5, 3, 8, 8),
    (2, 7, 1, 17, 31),  # an odd plane over several vectors
    (1, 9, 2, 23, 24),  # more columns than a tile of 512
    (1, 15, 1, 3, 11),
]
LAYOUTS = {
    "permuted": lambda t: t.permute(4, 2, 0, 1, 3).contiguous().permute(2, 3, 1, 4, 0),
    "channels_last": lambda t: t.movedim(2, -1).contiguous().movedim(-1, 2),
    "sliced": lambda t: torch.cat([t, t], dim=-1)[..., : t.shape[-1]],
    "strided": lambda t: t.repeat_interleave(2, dim=-2)[..., ::2, :],
    "offset": lambda t: torch.cat([t.flatten()[:1], t.flatten()])[1:].view(t.shape),  # misaligned
}


class AttentionContract:
    op = None
    reference = None
    num_logits = 1
    # For each set of logits, the axes that its maximum runs over.
    groups = ()
    inexact_layouts = ()  # that meet kernels which add in another order or contract otherwise

    @pytest.fixture(params=lesionkit.available_backends())
    def backend(self, request):
        with lesionkit.use_backend(request.param):
            yield request.param

    def check(self, tensors, *temperatures):
        op, reference = type(self).op, type(self).reference
        actual = with_gradients(op, tensors, *temperatures)
        expected = with_gradients(reference, [t.double() for t in tensors], *temperatures)
        for tensor, result in zip([tensors[0], *tensors], actual, strict=True):
            assert result.dtype == tensor.dtype
            assert result.shape == tensor.shape
        _, images, _, height, width = tensors[0].shape
        for result, oracle in zip(actual, expected, strict=True):
            assert_close(result, oracle, terms=max(images, height * width))
        return actual

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("ties", [False, True])
    def test_matches_reference(self, backend, shape, dtype, ties):
        self.check(inputs(self.num_logits, shape, dtype, ties=ties))

    @pytest.mark.parametrize("dtype, channels", [(torch.float32, 32), (torch.bfloat16, 64)])
    def test_results_of_16_mib_are_written_past_the_caches(self, dtype, channels):
        self.check(inputs(self.num_logits, (1, 2, channels, 256, 256), dtype))

    @pytest.mark.parametrize("images", range(1, 16))
    def test_every_number_of_images(self, backend, images):
        self.check(inputs(self.num_logits, (1, images, 2, 5, 5)))

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("logits_dtype", FLOATS)
    def test_logits_may_have_another_type(self, backend, dtype, logits_dtype):
        self.check(inputs(self.num_logits, (1, 3, 2, 5, 7), dtype, logits_dtype, ties=True))

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_any_layout(self, backend, layout, dtype):
        tensors = inputs(self.num_logits, (2, 3, 4, 5, 6), dtype)
        changed = [LAYOUTS[layout](tensor) for tensor in tensors]
        expected = with_gradients(type(self).op, tensors)
        variants = [[*tensors[:i], changed[i], *tensors[i + 1 :]] for i in range(len(tensors))]
        for variant in [*variants, changed]:
            actual = with_gradients(type(self).op, variant)
            for result, oracle in zip(actual, expected, strict=True):
                if layout in self.inexact_layouts:
                    assert_close(result, oracle.double(), terms=30)
                else:
                    assert torch.equal(result, oracle)

    @pytest.mark.parametrize("axis", range(5))
    def test_empty(self, backend, axis):
        shape = [2, 3, 4, 5, 6]
        shape[axis] = 0
        for result in with_gradients(type(self).op, inputs(self.num_logits, shape)):
            assert result.shape == tuple(shape)

    @pytest.mark.parametrize("temperature", [1e-45, 1e-30, 0.01, 1.0, 1e30, 1e45])
    def test_extreme_temperatures(self, backend, temperature):
        tensors = inputs(self.num_logits, (1, 3, 1, 2, 9), ties=True)
        tensors[1][0, 0, 0, 0, 0] = -INF
        temperatures = [temperature] * self.num_logits
        with torch.no_grad():
            y = type(self).op(*tensors, *temperatures)
            oracle = type(self).reference(*(t.double() for t in tensors), *temperatures)
        assert_close(y, oracle)

    def test_large_logits(self, backend):
        tensors = inputs(self.num_logits, (1, 3, 1, 4, 4))
        for index in range(1, len(tensors)):
            tensors[index] = tensors[index] * 1e4
        self.check(tensors, *([0.5] * self.num_logits))

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize(
        "bad", [[NAN], [INF], [-INF], [INF, -INF], [NAN, INF], [-INF, -INF], [INF, INF]]
    )
    def test_bad_logits(self, backend, bad, dtype):
        for which in range(1, self.num_logits + 1):
            tensors = inputs(self.num_logits, (1, 3, 2, 2, 9), dtype, ties=True)
            for image, value in enumerate(bad):
                tensors[which][0, image, 1, 1, 4] = value
                tensors[which][0, 0, 0, 0, image] = value
            self.check_bad(tensors)

    @pytest.mark.parametrize("value", [-INF, NAN])
    def test_a_whole_group_of_bad_logits_is_nan(self, backend, value):
        tensors = inputs(self.num_logits, (1, 3, 2, 2, 9))
        for which, axes in enumerate(self.groups, start=1):
            index = [0, 0, 0, 0, 0]
            for axis in axes:
                index[axis] = slice(None)
            bad = [tensor.clone() for tensor in tensors]
            bad[which][tuple(index)] = value
            assert type(self).op(*bad)[tuple(index)].isnan().all()
            self.check_bad(bad)

    def test_bad_features_stay_where_they_are(self, backend):
        tensors = inputs(self.num_logits, (1, 3, 2, 2, 9))
        clean = type(self).op(*tensors)
        for position, value in enumerate([NAN, INF, -INF]):
            tensors[0][0, position, 0, 1, 3] = value
        y = type(self).op(*tensors)
        assert torch.equal(y[tensors[0].isfinite()], clean[tensors[0].isfinite()])
        assert not y[~tensors[0].isfinite()].isfinite().any()
        self.check_bad(tensors)

    @pytest.mark.parametrize("value", [NAN, INF, -INF])
    def test_one_bad_feature_reaches_the_gradients_of_its_whole_group(self, backend, value):
        tensors = inputs(self.num_logits, (1, 3, 2, 2, 9))
        self.check_one_bad_feature(tensors, (0, 1, 0, 1, 3), value)

    def check_one_bad_feature(self, tensors, index, value):
        tensors[0][index] = value
        _, _, *dlogits = self.check_bad(tensors)
        for gradient, axes in zip(dlogits, self.groups, strict=True):
            group = tuple(slice(None) if axis in axes else i for axis, i in enumerate(index))
            assert not gradient[group].isfinite().any()

    def check_bad(self, tensors):
        """Values as the reference; gradients finite exactly where the reference's are, and alike.

        Where a column or plane has no finite gradient, which of NaN and infinity stands there
        depends on the order of operations.
        """
        actual = with_gradients(type(self).op, tensors)
        expected = with_gradients(type(self).reference, [t.double() for t in tensors])
        assert_close(actual[0], expected[0])
        for result, oracle in zip(actual[1:], expected[1:], strict=True):
            assert torch.equal(result.isfinite(), oracle.isfinite())
            good = oracle.isfinite()
            assert_close(result[good], oracle[good])
        return actual

    def test_gradcheck(self, backend):
        tensors = inputs(self.num_logits, (2, 3, 2, 2, 3), torch.float64)
        tensors = [tensor.requires_grad_() for tensor in tensors]
        assert torch.autograd.gradcheck(type(self).op, tensors)

    def test_properties(self):
        # Hypothesis refuses one test method that several classes inherit; hence the inner function.
        @settings(max_examples=40, deadline=None)
        @given(
            st.tuples(*(st.integers(1, limit) for limit in (2, 9, 3, 7, 9))),
            st.integers(0, 1000),
            st.floats(0.1, 10),
            st.floats(-50, 50),
        )
        def hold(shape, seed, temperature, shift):
            tensors = inputs(self.num_logits, shape, torch.float64, seed=seed, ties=True)
            temperatures = [temperature] * self.num_logits
            y, _, *dlogits = with_gradients(type(self).op, tensors, *temperatures)
            assert (y.abs() <= tensors[0].abs()).all()  # weights are at most 1
            for gradient, axes in zip(dlogits, self.groups, strict=True):
                sums = gradient.sum(axes)
                torch.testing.assert_close(sums, torch.zeros_like(sums), atol=1e-9, rtol=0)
            shifted = [tensors[0], *(tensor + shift for tensor in tensors[1:])]
            torch.testing.assert_close(type(self).op(*shifted, *temperatures), y)

        hold()

    def test_float_gradients_are_the_same_for_any_number_of_threads(self):
        tensors = inputs(self.num_logits, (2, 5, 16, 32, 32))
        threads = torch.get_num_threads()
        try:
            results = []
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                results.append(with_gradients(type(self).op, tensors))
        finally:
            torch.set_num_threads(threads)
        for first, second in pairwise(results):
            assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

    def test_bad_arguments(self, backend):
        op, reference = type(self).op, type(self).reference
        x, *logits = inputs(self.num_logits, (1, 3, 2, 4, 4))
        for function in (op, reference):
            with pytest.raises(ValueError, match=r"x must be \[B, M, D, H, W\].*\(3, 2, 4, 4\)"):
                function(x[0], *(tensor[0] for tensor in logits))
            with pytest.raises(ValueError, match=r"logits must have x's shape.*\(1, 3, 2, 4, 3\)"):
                function(x, *(tensor[..., :3] for tensor in logits))
            with pytest.raises(ValueError, match="logits must be on x's device cpu, got meta"):
                function(x, *(tensor.to("meta") for tensor in logits))
            with pytest.raises(TypeError, match=r"x must be of type float64.*int64"):
                function(x.long(), *logits)
            with pytest.raises(TypeError, match=r"logits must be of type.*bool"):
                function(x, *(tensor.bool() for tensor in logits))
            with pytest.raises(TypeError, match="x must be a tensor, got list"):
                function([1.0], *logits)
            with pytest.raises(TypeError, match="x must be dense"):
                function(x.to_sparse(), *logits)
            for bad in (0, 0.0, -1.0, NAN, INF):
                with pytest.raises(ValueError, match="temperature must be finite and above 0"):
                    function(x, *logits, bad)
            for bad in ("2", None, True, torch.tensor(2.0)):
                with pytest.raises(TypeError, match="temperature must be a float"):
                    function(x, *logits, bad)
