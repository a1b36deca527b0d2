"""Gives the C++ ops their fake implementation, autograd and vmap. The schemas are in C++."""

from collections.abc import Callable

import torch
from torch import Tensor

from lesionkit.ops.backends import has_library


def new_like(tensor: Tensor) -> Tensor:
    """What the kernels allocate for a result: contiguous, whatever the layout of the input."""
    return tensor.new_empty(tensor.shape)


def register_op(
    name: str,
    *,
    fake: Callable,
    backward_fake: Callable,
    setup_context: Callable,
    backward: Callable,
) -> None:
    """Register ``lesionkit::name`` and ``lesionkit::name_backward``, if the library is there."""
    if not has_library():
        return
    torch.library.register_fake(f"lesionkit::{name}", fake)
    torch.library.register_fake(f"lesionkit::{name}_backward", backward_fake)
    torch.library.register_autograd(f"lesionkit::{name}", backward, setup_context=setup_context)

    torch.library.register_autograd(f"lesionkit::{name}_backward", _no_second_derivative(name))


def _no_second_derivative(name: str) -> Callable:
    def backward(ctx, *grads):
        raise RuntimeError(
            f"lesionkit.{name} has no second derivative; "
            f"differentiate lesionkit.{name}_reference twice instead"
        )

    return backward


def register_attention(name: str, *, num_logits: int) -> Callable:
    """Register an attention op of x, `num_logits` tensors like x, and as many temperatures.

    Returns the function to call it by: the op inside an autograd.Function, which torch.func's
    transforms can differentiate; they cannot see through an op's own registration.
    """
    num_tensors = 1 + num_logits
    if not has_library():
        return None
    op = getattr(torch.ops.lesionkit, name).default
    backward_op = getattr(torch.ops.lesionkit, f"{name}_backward").default

    def fake(x, *rest):
        return new_like(x)

    def backward_fake(grad, *arguments):
        return tuple(new_like(tensor) for tensor in arguments[:num_tensors])

    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:num_tensors])
        ctx.temperatures = inputs[num_tensors:]

    def backward(ctx, grad):
        gradients = call_backward(grad, *ctx.saved_tensors, *ctx.temperatures)
        return *gradients, *(None for _ in ctx.temperatures)

    register_op(
        name,
        fake=fake,
        backward_fake=backward_fake,
        setup_context=setup_context,
        backward=backward,
    )
    call = _differentiable(op, num_tensors, setup_context, backward)
    call_backward = _differentiable(
        backward_op, num_tensors + 1, lambda *_: None, _no_second_derivative(name)
    )
    return call


def _differentiable(
    op: Callable, num_tensors: int, setup_context: Callable, backward: Callable
) -> Callable:
    """Register op's vmap; the function that calls op so that torch.func can differentiate it."""
    vmap = _samples_vmap(op, num_tensors)
    torch.library.register_vmap(op, vmap)

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(*arguments):
            return op(*arguments)

    Function.setup_context = staticmethod(setup_context)
    Function.backward = staticmethod(backward)
    Function.vmap = staticmethod(vmap)

    def call(*arguments):
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return Function.apply(*arguments)
        return op(*arguments)

    return call


def _samples_vmap(op: Callable, num_tensors: int) -> Callable:
    """Samples are independent, so a mapped dimension joins the sample dimension B."""

    def vmap(info, in_dims, *arguments):
        folded = []
        for tensor, dim in zip(arguments[:num_tensors], in_dims, strict=False):
            if dim is None:
                mapped = tensor.expand(info.batch_size, *tensor.shape)
            else:
                mapped = tensor.movedim(dim, 0)
            folded.append(mapped.flatten(0, 1))
        result = op(*folded, *arguments[num_tensors:])
        unfolded = (info.batch_size, -1)
        if isinstance(result, Tensor):
            return result.unflatten(0, unfolded), 0
        return tuple(part.unflatten(0, unfolded) for part in result), (0,) * len(result)

    return vmap
