"""What the three attention benchmarks share.

The peers are the paper's steps (softmax, divide by its maximum, multiply) and the collapsed form
(one exponential), both in eager and compiled by Inductor. All run in one process, interleaved.
"""

from collections.abc import Callable

import torch

import lesionkit
from bench.measure import header, medians, report, reuse_memory

SHAPE = (1, 5, 512, 64, 64)  # one sample of 15 slices at stride 8


def compare(name: str, collapsed: Callable, num_logits: int = 1) -> None:
    """Print the forward, and the forward with the backward, of one op and its peers."""
    reuse_memory()
    header()
    steps = getattr(lesionkit, f"{name}_attention_reference")
    tensors = [torch.randn(SHAPE) for _ in range(1 + num_logits)]
    out, grad = torch.empty(SHAPE), torch.randn(SHAPE)
    ours = f"lesionkit {name}"
    forms = {
        ours: getattr(lesionkit, f"{name}_attention"),
        "eager, the paper's steps": steps,
        "eager, collapsed": collapsed,
        "compiled, the paper's steps": torch.compile(steps, dynamic=False),
        "compiled, collapsed": torch.compile(collapsed, dynamic=False),
    }
    add = {"torch.add, three streams": lambda: torch.add(tensors[0], tensors[1], out=out)}
    size, streams = out.nbytes, 2 + num_logits
    moved = {"torch.add, three streams": 3 * size, ours: streams * size}
    with torch.no_grad():
        times = medians(add | {key: (lambda f=form: f(*tensors)) for key, form in forms.items()})
    report(f"{name} forward, {list(SHAPE)}", ours, times, moved)
    moved[ours] = (2 * streams + 1 + num_logits) * size  # read those and grad, write gradients
    both = {key: forward_and_backward(form, tensors, grad) for key, form in forms.items()}
    report(f"{name} forward + backward, {list(SHAPE)}", ours, medians(add | both), moved)


def forward_and_backward(function: Callable, tensors: list, grad: torch.Tensor) -> Callable:
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    return lambda: torch.autograd.grad(function(*leaves), leaves, grad)
