"""The contract of the attention ops, held by every backend on the GPU."""

import pytest
import torch

import lesionkit
from tests.gpu import BACKENDS, DTYPES, gpu
from tests.gpu.transfer import on_gpu
from tests.ops.attention_contract import AttentionContract, inputs

pytestmark = gpu


class OnGpu(AttentionContract):
    inexact_layouts = ("offset",)
    # Tests in float64, of the CPU's threads, and of messages that name the CPU.
    test_gradcheck = None
    test_properties = None
    test_float_gradients_are_the_same_for_any_number_of_threads = None
    test_bad_arguments = None

    @pytest.fixture(params=BACKENDS)
    def backend(self, request):
        types = [request.node.callspec.params.get(name) for name in ("dtype", "logits_dtype")]
        if torch.float64 in types:
            pytest.skip("GPU kernels take no float64")
        with lesionkit.use_backend(request.param):
            yield request.param

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(
        "shape",
        [
            (1, 5, 8, 64, 64),
            (2, 9, 4, 32, 32),
            (1, 3, 4, 53, 67),  # odd planes: no vector begins where a plane does
            (1, 2, 2, 160, 161),  # planes that no register file holds
            (1, 16, 3, 9, 9),  # more images than are unrolled
            (70000, 2, 1, 1, 3),  # more samples than a grid's height
        ],
    )
    def test_sizes_of_the_launch_tables(self, backend, shape, dtype):
        self.check(inputs(self.num_logits, shape, dtype))
        self.check(inputs(self.num_logits, shape, dtype, ties=True))

    def test_registration(self, backend):
        namespace = "lesionkit" if backend == "cuda" else f"lesionkit_{backend}"
        tensors = [t.cuda() for t in inputs(self.num_logits, (2, 3, 2, 4, 5))]
        op = getattr(getattr(torch.ops, namespace), self.name).default
        temperatures = [2.0] * self.num_logits
        results = torch.library.opcheck(
            op, (*(tensor.requires_grad_() for tensor in tensors), *temperatures)
        )
        assert set(results.values()) == {"SUCCESS"}
        many = [torch.stack([tensor, tensor * 2]).detach() for tensor in tensors]
        public = getattr(lesionkit, self.name)
        mapped = torch.func.vmap(public)(*many)
        for index in range(2):
            assert torch.equal(mapped[index], public(*(tensor[index] for tensor in many)))


class TestContextual(OnGpu):
    name = "contextual_attention"
    op = on_gpu(lesionkit.contextual_attention)
    reference = lesionkit.contextual_attention_reference
    groups = ((1,),)


class TestSpatial(OnGpu):
    name = "spatial_attention"
    op = on_gpu(lesionkit.spatial_attention)
    reference = lesionkit.spatial_attention_reference
    groups = ((3, 4),)


class TestDual(OnGpu):
    name = "dual_attention"
    num_logits = 2
    op = on_gpu(lesionkit.dual_attention)
    reference = lesionkit.dual_attention_reference
    groups = ((1,), (3, 4))
