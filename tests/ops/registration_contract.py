"""What the dispatcher must know of every attention op: schema, fake, autograd, vmap, compile."""

import pytest
import torch

from tests.ops.attention_contract import inputs, with_gradients


class RegistrationContract:
    op = None
    reference = None
    num_logits = 1

    @property
    def overload(self):
        return getattr(torch.ops.lesionkit, type(self).op.__name__).default

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
    @pytest.mark.parametrize("permuted", [False, True])
    def test_opcheck(self, dtype, permuted):
        tensors = inputs(self.num_logits, (2, 3, 2, 4, 5), dtype)
        if permuted:
            tensors = [t.transpose(1, 4).contiguous().transpose(1, 4) for t in tensors]
        temperatures = [2.0] * self.num_logits
        results = torch.library.opcheck(
            self.overload, (*(t.requires_grad_() for t in tensors), *temperatures)
        )
        assert len(results) == 4
        assert set(results.values()) == {"SUCCESS"}
        backward = getattr(torch.ops.lesionkit, f"{type(self).op.__name__}_backward").default
        tensors = [tensor.detach() for tensor in tensors]
        results = torch.library.opcheck(backward, (tensors[0], *tensors, *temperatures))
        assert set(results.values()) == {"SUCCESS"}

    def test_fullgraph_compile(self):
        tensors = inputs(self.num_logits, (2, 3, 2, 4, 5))

        def layer(x, *logits):
            return type(self).op(x * 2, *(tensor + 1 for tensor in logits)).sin()

        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        for shape in ((2, 3, 2, 4, 5), (1, 5, 3, 6, 7)):  # the second is traced with dynamic sizes
            tensors = inputs(self.num_logits, shape)
            for result, eager in zip(
                with_gradients(compiled, tensors), with_gradients(layer, tensors), strict=True
            ):
                torch.testing.assert_close(result, eager)

    @pytest.mark.parametrize("dims", [0, 1, 5])
    def test_vmap(self, dims):
        tensors = inputs(self.num_logits, (2, 3, 2, 4, 5, 3))
        size = tensors[0].shape[dims]

        def total(*args):
            return type(self).op(*args).square().sum()

        values = torch.func.vmap(type(self).op, in_dims=dims)(*tensors)
        gradients = torch.func.vmap(torch.func.grad(total), in_dims=dims)(*tensors)
        for index in range(size):
            one = [tensor.select(dims, index) for tensor in tensors]
            assert torch.equal(values[index], type(self).op(*one))
            torch.testing.assert_close(gradients[index], torch.func.grad(total)(*one))

    def test_vmap_over_one_argument(self):
        tensors = inputs(self.num_logits, (2, 3, 2, 4, 5))
        many = torch.stack([tensors[1], tensors[1] * 2])
        in_dims = (None, 0, *([None] * (self.num_logits - 1)))
        values = torch.func.vmap(type(self).op, in_dims=in_dims)(tensors[0], many, *tensors[2:])
        for index in range(2):
            one = type(self).op(tensors[0], many[index], *tensors[2:])
            assert torch.equal(values[index], one)

    def test_vmap_over_nothing(self):
        tensors = inputs(self.num_logits, (0, 2, 3, 2, 4, 5))
        assert torch.func.vmap(type(self).op)(*tensors).shape == (0, 2, 3, 2, 4, 5)
        total = torch.func.grad(lambda *args: type(self).op(*args).sum())
        assert torch.func.vmap(total)(*tensors).shape == (0, 2, 3, 2, 4, 5)

    def test_second_derivative_is_refused(self):
        tensors = inputs(self.num_logits, (1, 3, 1, 2, 2), torch.float64)
        x = tensors[0].requires_grad_()
        (first,) = torch.autograd.grad(
            type(self).op(x, *tensors[1:]).square().sum(), x, create_graph=True
        )
        with pytest.raises(RuntimeError, match="no second derivative"):
            first.sum().backward()
        (first,) = torch.autograd.grad(
            type(self).reference(x, *tensors[1:]).square().sum(), x, create_graph=True
        )
        first.sum().backward()

    def test_forward_mode_is_refused(self):
        tensors = inputs(self.num_logits, (1, 2, 1, 2, 2))
        for transform in (torch.func.jacfwd, torch.func.hessian):
            with pytest.raises(RuntimeError, match="no forward-mode derivative"):
                transform(lambda x: type(self).op(x, *tensors[1:]).sum())(tensors[0])

    def test_direct_calls_are_checked_too(self):
        x, *logits = inputs(self.num_logits, (1, 3, 2, 4, 4))
        temperatures = [2.0] * self.num_logits
        with pytest.raises(RuntimeError, match="must have x's shape"):
            self.overload(x, *(tensor[..., :2] for tensor in logits), *temperatures)
        with pytest.raises(RuntimeError, match="must be finite and above 0"):
            self.overload(x, *logits, *([0.0] * self.num_logits))
        with pytest.raises(RuntimeError, match="must be float64, float32, float16 or bfloat16"):
            self.overload(x.int(), *logits, *temperatures)

    def test_saves_only_its_inputs(self):
        tensors = [tensor.requires_grad_() for tensor in inputs(self.num_logits, (1, 3, 2, 4, 4))]
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
            type(self).op(*tensors)
        assert {t.data_ptr() for t in saved} == {t.data_ptr() for t in tensors}

    def test_autocast_leaves_types_alone(self):
        x, *logits = inputs(self.num_logits, (1, 3, 2, 4, 4))
        half = [tensor.bfloat16() for tensor in logits]
        with torch.autocast("cpu", torch.bfloat16):
            y = type(self).op(x, *half)
        assert y.dtype == torch.float32
        assert torch.equal(y, type(self).op(x, *half))
