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

    def second_derivative(ctx, *grads):
        raise RuntimeError(
            f"lesionkit.{name} has no second derivative; "
            f"differentiate lesionkit.{name}_reference twice instead"
        )

    torch.library.register_autograd(f"lesionkit::{name}_backward", second_derivative)


def register_attention(name: str, *, num_logits: int) -> None:
    """Register an attention op of x, `num_logits` tensors like x, and as many temperatures."""
    num_tensors = 1 + num_logits

    def fake(x, *rest):
        return new_like(x)

    def backward_fake(grad, *arguments):
        return tuple(new_like(tensor) for tensor in arguments[:num_tensors])

    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:num_tensors])
        ctx.temperatures = inputs[num_tensors:]

    def backward(ctx, grad):
        gradients = backward_op()(grad, *ctx.saved_tensors, *ctx.temperatures)
        return *gradients, *(None for _ in ctx.temperatures)

    def backward_op():
        return getattr(torch.ops.lesionkit, f"{name}_backward").default

    register_op(
        name,
        fake=fake,
        backward_fake=backward_fake,
        setup_context=setup_context,
        backward=backward,
    )
    if has_library():
        _register_vmap(name, num_tensors)
        _register_vmap(f"{name}_backward", num_tensors + 1)


def _register_vmap(name: str, num_tensors: int) -> None:
    """Samples are independent, so a mapped dimension joins the sample dimension B."""

    def vmap(info, in_dims, *arguments):
        folded = []
        for tensor, dim in zip(arguments[:num_tensors], in_dims, strict=False):
            if dim is None:
                tensor = tensor.expand(info.batch_size, *tensor.shape)
            else:
                tensor = tensor.movedim(dim, 0)
            folded.append(tensor.flatten(0, 1))
        op = getattr(torch.ops.lesionkit, name).default
        result = op(*folded, *arguments[num_tensors:])
        unfold = (info.batch_size, -1)
        if isinstance(result, Tensor):
            return result.unflatten(0, unfold), 0
        return tuple(part.unflatten(0, unfold) for part in result), (0,) * len(result)

    torch.library.register_vmap(f"lesionkit::{name}", vmap)
