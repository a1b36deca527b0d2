"""The attention ops on a GPU beside their floor, eager and torch.compile.

Rows are dictionaries: op, shape, dtype, direction, implementation, microseconds of the kernels and
of a call from Python; for ours also the bytes that the op must move, bytes per second, and the
fraction of a copy of as many bytes. The backward alone is ours only: a peer's cannot be captured
without its forward, which "forward + backward" holds for all.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch

import lesionkit
from bench import contextual, dual, spatial
from bench.gpu import direct, timing
from bench.gpu.points import Point
from bench.gpu.verdicts import COMPILED, STEPS

COLLAPSED = {"contextual": contextual, "spatial": spatial, "dual": dual}


def rows(point: Point, compiled: bool = True) -> Iterator[dict]:
    """All rows of one size and type, ours first."""
    streams = 3 if point.op == "dual" else 2
    dtype = getattr(torch, point.dtype)
    size = torch.empty(point.shape, dtype=dtype, device="meta").nbytes
    torch.manual_seed(0)
    sets = [
        _inputs(point.shape, dtype, streams) for _ in range(timing.num_sets((streams + 1) * size))
    ]
    public = getattr(lesionkit, f"{point.op}_attention")
    backends = [n for n in lesionkit.available_backends(timing.device()) if n != "reference"]
    moved = {"forward": (streams + 1) * size, "backward": (2 * streams + 1) * size}
    moved["forward + backward"] = sum(moved.values())
    for direction, bytes_moved in moved.items():
        row = point.facts | {"direction": direction}
        copy = timing.copy_seconds(bytes_moved // 2)
        for name in backends:
            if direction == "backward":
                call, mode = _backward(point.op, name), torch.inference_mode
            else:
                call, mode = _call(public, direction)
            context = partial(direct.running, name, mode)
            yield timing.measured(
                row | {"implementation": name},
                *(call, _arguments(sets, direction), context, bytes_moved, copy),
                peak=direction == "forward + backward",
            )
        if direction == "backward":
            continue
        for name, function in _peers(point.op, compiled).items():
            call, mode = _call(function, direction)
            yield timing.measured(
                row | {"implementation": name},
                *(call, _arguments(sets, direction), mode),
                peak=direction == "forward + backward",
            )
    torch._dynamo.reset()


def _inputs(shape: tuple[int, ...], dtype: torch.dtype, streams: int) -> tuple:
    """x and the logits, which want gradients, and the gradient of the result."""
    tensors = [torch.randn(shape, device=timing.device()).to(dtype) for _ in range(streams + 1)]
    return *(tensor.requires_grad_() for tensor in tensors[:-1]), tensors[-1]


def _arguments(sets: list[tuple], direction: str) -> list[tuple]:
    if direction == "forward":
        return [leaves for *leaves, _ in sets]
    if direction == "backward":
        return [(grad, *leaves) for *leaves, grad in sets]
    return sets


def _peers(op: str, compiled: bool) -> dict[str, Callable]:
    steps = getattr(lesionkit, f"{op}_attention_reference")
    collapsed = COLLAPSED[op].collapsed
    peers = {}
    if compiled:
        forms = zip(COMPILED, (collapsed, steps), strict=True)
        peers |= {name: torch.compile(form, dynamic=False) for name, form in forms}
    return peers | {STEPS: steps, "eager, collapsed": collapsed}


def _call(function: Callable, direction: str) -> tuple[Callable, Callable]:
    """What to time, and within which context."""
    if direction == "forward":
        return function, torch.no_grad

    def forward_and_backward(*tensors):
        *leaves, grad = tensors
        y = function(*leaves)
        return y, *torch.autograd.grad(y, leaves, grad)

    return forward_and_backward, torch.enable_grad


def _backward(op: str, backend: str) -> Callable:
    backward, temperatures = direct.op(op, backend, backward=True), direct.TEMPERATURES[op]
    return lambda *tensors: backward(*tensors, *temperatures)
