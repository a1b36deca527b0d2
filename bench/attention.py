"""Attention on the CPU against eager and torch.compile.

    python -m bench.attention [contextual] [spatial] [dual]

The peers are the paper's steps (softmax, divide by its maximum, multiply) and the collapsed form
(one exponential), both in eager and compiled by Inductor. All run in one process, interleaved.
"""

import argparse
from collections.abc import Callable

import torch

import lesionkit
from bench.measure import header, medians, report, reuse_memory

SHAPE = (1, 5, 512, 64, 64)  # one sample of 15 slices at stride 8
AXES = {"contextual": [(1,)], "spatial": [(3, 4)], "dual": [(1,), (3, 4)]}
TEMPERATURE = {(1,): 2.0, (3, 4): 3.0}


def collapsed(axes: list[tuple[int, ...]]) -> Callable:
    def form(x, *logits):
        for c, axis in zip(logits, axes, strict=True):
            x = x * torch.exp((c - c.amax(axis, keepdim=True)) / TEMPERATURE[axis])
        return x

    return form


def forward_and_backward(function: Callable, tensors: list, grad: torch.Tensor) -> Callable:
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    return lambda: torch.autograd.grad(function(*leaves), leaves, grad)


def run(name: str) -> None:
    op = getattr(lesionkit, f"{name}_attention")
    steps = getattr(lesionkit, f"{name}_attention_reference")
    short = collapsed(AXES[name])
    tensors = [torch.randn(SHAPE) for _ in range(1 + len(AXES[name]))]
    out, grad = torch.empty(SHAPE), torch.randn(SHAPE)
    forms = {
        f"lesionkit {name}": op,
        "eager, the paper's steps": steps,
        "eager, collapsed": short,
        "compiled, the paper's steps": torch.compile(steps, dynamic=False),
        "compiled, collapsed": torch.compile(short, dynamic=False),
    }
    size = out.numel() * out.element_size()
    ours = f"lesionkit {name}"
    add = {"torch.add, three streams": lambda: torch.add(tensors[0], tensors[1], out=out)}
    streams = 2 + len(AXES[name])
    with torch.no_grad():
        bound = {key: (lambda f=f: f(*tensors)) for key, f in forms.items()}
        times = medians(add | bound)
    moved = {"torch.add, three streams": 3 * size, ours: streams * size}
    report(f"{name} forward, {list(SHAPE)}", ours, times, moved)
    both = {key: forward_and_backward(f, tensors, grad) for key, f in forms.items()}
    times = medians(add | both)
    moved[ours] = (streams + 3 + 2 * len(AXES[name])) * size
    report(f"{name} forward + backward, {list(SHAPE)}", ours, times, moved)


if __name__ == "__main__":
    reuse_memory()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ops", nargs="*", help="contextual, spatial, dual; all if none is named")
    asked = parser.parse_args().ops or list(AXES)
    header()
    for name in asked:
        run(name)
