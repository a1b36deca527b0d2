"""Gives the C++ ops their fake implementation, autograd and vmap. The schemas are in C++."""

from collections.abc import Callable

import torch
from torch import Tensor

from lesionkit.ops.backends import has_library


def register_op(
    name: str,
    *,
    fake: Callable,
    backward_fake: Callable,
    setup_context: Callable,
    backward: Callable,
    vmap: Callable | None = None,
    backward_vmap: Callable | None = None,
) -> Callable | None:
    """Register ``lesionkit::name`` and ``lesionkit::name_backward``, if the library is there.

    `backward` takes the context, the gradient and the function that calls the backward op; `vmap`
    and `backward_vmap` take the op and then what ``torch.library.register_vmap`` passes.

    Returns the function to call the op by, None without the library.
    """
    if not has_library():
        return None
    op = getattr(torch.ops.lesionkit, name).default
    backward_op = getattr(torch.ops.lesionkit, f"{name}_backward").default
    torch.library.register_fake(op, fake)
    torch.library.register_fake(backward_op, backward_fake)

    def second_backward(ctx, *grads):
        raise RuntimeError(
            f"lesionkit.{name} has no second derivative; "
            f"differentiate lesionkit.{name}_reference twice instead"
        )

    call_backward = _differentiable(
        backward_op, lambda ctx, inputs, output: None, second_backward, backward_vmap
    )
    return _differentiable(
        op, setup_context, lambda ctx, grad: backward(ctx, grad, call_backward), vmap
    )


def _differentiable(
    op: Callable, setup_context: Callable, backward: Callable, vmap: Callable | None
) -> Callable:
    """Register autograd and vmap of `op`; the function to call it by.

    That function goes through an autograd.Function of its own: torch.func's transforms cannot see
    through the autograd that is registered with an op, and Dynamo needs no more than the op.
    """
    torch.library.register_autograd(op, backward, setup_context=setup_context)

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(*arguments):
            return op(*arguments)

    Function.setup_context = staticmethod(setup_context)
    Function.backward = staticmethod(backward)
    if vmap is not None:

        def batched(info, in_dims, *arguments):
            return vmap(op, info, in_dims, *arguments)

        torch.library.register_vmap(op, batched)
        Function.vmap = staticmethod(batched)

    def call(*arguments):
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return Function.apply(*arguments)
        return op(*arguments)

    return call


def register_attention(name: str, *, num_logits: int) -> Callable | None:
    """Register an attention op of x, `num_logits` tensors like x, and as many temperatures."""
    num_tensors = 1 + num_logits

    def fake(x, *rest):
        for logits in rest[:num_logits]:
            torch._check(logits.device == x.device, lambda: "logits must be on x's device")
        return x.new_empty(x.shape)  # contiguous, whatever the layout of x

    def backward_fake(grad, *arguments):
        return tuple(tensor.new_empty(tensor.shape) for tensor in arguments[:num_tensors])

    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:num_tensors])
        ctx.temperatures = inputs[num_tensors:]

    def backward(ctx, grad, call_backward):
        gradients = call_backward(grad, *ctx.saved_tensors, *ctx.temperatures)
        return *gradients, *(None for _ in ctx.temperatures)

    return register_op(
        name,
        fake=fake,
        backward_fake=backward_fake,
        setup_context=setup_context,
        backward=backward,
        vmap=_fold_into_samples(num_tensors),
        backward_vmap=_fold_into_samples(num_tensors + 1),
    )


def _fold_into_samples(num_tensors: int) -> Callable:
    """Samples are independent, so a mapped dimension joins the sample dimension B."""

    def vmap(op, info, in_dims, *arguments):
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
