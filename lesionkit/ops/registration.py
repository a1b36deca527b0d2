"""Gives the ops their fake implementation, autograd and vmap. The schemas are in C++."""

from collections.abc import Callable
from importlib import import_module

import torch
from torch import Tensor

from lesionkit.ops.backends import PYTHON_BACKENDS, has_library

# The compiled libraries share the namespace `lesionkit`, where the dispatcher chooses by device.
# Two backends for one device cannot: those that run from Python have namespaces of their own.
_NAMESPACES = {name: torch.library.Library(f"lesionkit_{name}", "DEF") for name in PYTHON_BACKENDS}


def register_op(
    name: str,
    kernel: str,
    *,
    fake: Callable,
    backward_fake: Callable,
    setup_context: Callable,
    backward: Callable,
    vmap: Callable | None = None,
    backward_vmap: Callable | None = None,
) -> dict[str, Callable]:
    """Register op `name` and ``<name>_backward`` for every backend, if the library is there.

    `kernel` is the op's folder in kernels/. `backward` takes the context, the gradient and the
    function that calls the backward op; `vmap` and `backward_vmap` take the op and then what
    ``torch.library.register_vmap`` passes.

    Returns the function to call the op by, for each backend but the reference.
    """
    if not has_library():
        return {}

    def second_backward(ctx, *grads):
        raise RuntimeError(
            f"lesionkit.{name} has no second derivative; "
            f"differentiate lesionkit.{name}_reference twice instead"
        )

    def complete(namespace: str) -> Callable:
        ops = getattr(torch.ops, namespace)
        op, backward_op = getattr(ops, name).default, getattr(ops, f"{name}_backward").default
        torch.library.register_fake(op, fake)
        torch.library.register_fake(backward_op, backward_fake)
        call_backward = _differentiable(
            backward_op, lambda ctx, inputs, output: None, second_backward, backward_vmap
        )
        return _differentiable(
            op, setup_context, lambda ctx, grad: backward(ctx, grad, call_backward), vmap
        )

    compiled = complete("lesionkit")
    calls = {"cpu": compiled, "cuda": compiled}
    for backend in PYTHON_BACKENDS:
        _implement(backend, kernel, name, "forward")
        _implement(backend, kernel, f"{name}_backward", "backward")
        calls[backend] = complete(f"lesionkit_{backend}")
    return calls


def _implement(backend: str, kernel: str, op: str, function: str) -> None:
    """Define `op` in the backend's namespace, run by lesionkit.kernels.<kernel>.<backend>."""

    def run(*arguments):
        # Imported at the first call: `import lesionkit` loads neither Triton nor CuPy.
        module = import_module(f"lesionkit.kernels.{kernel}.{backend}")
        packed = (a.contiguous() if isinstance(a, Tensor) else a for a in arguments)
        return getattr(module, function)(*packed)

    library = _NAMESPACES[backend]
    library.define(str(getattr(torch.ops.lesionkit, op).default._schema).partition("::")[2])
    for device_type in ("CPU", "CUDA"):  # Triton's interpreter takes CPU tensors
        library.impl(op, run, device_type)


def _differentiable(
    op: Callable, setup_context: Callable, backward: Callable, vmap: Callable | None
) -> Callable:
    """Register autograd and vmap of `op`; the function to call it by.

    That function goes through an autograd.Function of its own: torch.func's transforms cannot see
    through the autograd that is registered with an op, and Dynamo needs no more than the op.
    """
    torch.library.register_autograd(op, backward, setup_context=setup_context)

    def without_graph(*arguments):
        # The op's own autograd runs in Python too, and would cost as much as the call.
        with torch._C._AutoDispatchBelowAutograd():
            return op(*arguments)

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(*arguments):
            return without_graph(*arguments)

    def jvp(ctx, *tangents):
        raise RuntimeError(f"{op} has no forward-mode derivative and no second one")

    Function.setup_context = staticmethod(setup_context)
    Function.backward = staticmethod(backward)
    Function.jvp = staticmethod(jvp)
    if vmap is not None:

        def batched(info, in_dims, *arguments):
            return vmap(op, info, in_dims, *arguments)

        torch.library.register_vmap(op, batched)
        Function.vmap = staticmethod(batched)

    def call(*arguments):
        if torch.compiler.is_compiling():
            return op(*arguments)
        if torch.is_grad_enabled():
            return Function.apply(*arguments)
        return without_graph(*arguments)

    return call


def register_attention(name: str, kernel: str, *, num_logits: int) -> dict[str, Callable]:
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
        kernel,
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
        unfolded = mapped.shape[:2]
        if isinstance(result, Tensor):
            return result.unflatten(0, unfolded), 0
        return tuple(part.unflatten(0, unfolded) for part in result), (0,) * len(result)

    return vmap
