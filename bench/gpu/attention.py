"""The attention ops on a GPU beside their floor, eager and torch.compile.

Rows are dictionaries: op, shape, dtype, direction, implementation, microseconds; for ours also the
bytes that the op must move, bytes per second, and the fraction of a copy of as many bytes.
"""

from collections.abc import Callable, Iterator

import torch

import lesionkit
from bench import contextual, dual, spatial
from bench.gpu.timing import (
    call_seconds,
    cold_seconds,
    copy_seconds,
    device,
    num_sets,
    peak_bytes,
    total_bytes,
)

# (B, M, side of the feature grid), 512 channels: 9 to 27 slices at strides 8 and 16.
SHAPES = [(b, m, side) for side in (64, 32) for b, m in ((1, 5), (2, 9), (1, 9), (1, 7), (1, 3))]
DTYPES = (torch.bfloat16, torch.float32, torch.float16)
COLLAPSED = {"contextual": contextual, "spatial": spatial, "dual": dual}


def rows(op: str, channels: int = 512, shapes=SHAPES, compiled: bool = True) -> Iterator[dict]:
    """All rows of one op; the shapes and types that matter most come first."""
    backends = [name for name in lesionkit.available_backends(device()) if name != "reference"]
    yield _host_row(op, backends)
    for b, m, side in shapes:
        for dtype in DTYPES:
            shape = (b, m, channels, side, side)
            peers = compiled and dtype != torch.float16
            yield from _of_shape(op, shape, dtype, backends, peers)
            torch._dynamo.reset()


def _of_shape(op: str, shape: tuple, dtype: torch.dtype, backends: list, compiled: bool):
    streams = 3 if op == "dual" else 2
    size = torch.empty(shape, dtype=dtype, device="meta").nbytes
    make = _inputs(shape, dtype, streams)
    moved = {"forward": (streams + 1) * size, "forward + backward": (3 * streams + 2) * size}
    for direction, bytes_moved in moved.items():
        common = {"op": op, "shape": list(shape), "dtype": _name(dtype), "direction": direction}
        both = direction != "forward"
        sets = [make() for _ in range(num_sets(bytes_moved))]
        copy = copy_seconds(bytes_moved // 2)
        for name, function in _implementations(op, backends, compiled).items():
            call = _forward_and_backward(function) if both else _forward(function)
            row = common | {"implementation": name}
            try:
                seconds = cold_seconds(call, sets)
            except RuntimeError as error:  # one that cannot run must not end the measurement
                yield row | {"error": str(error).splitlines()[0]}
                continue
            row |= {"microseconds": seconds * 1e6}
            if both:
                row |= {"peak_bytes": peak_bytes(call, sets[0])}
            if name in backends:
                row |= {
                    "bytes": bytes_moved,
                    "bytes_per_second": bytes_moved / seconds,
                    "fraction_of_copy": copy / seconds,
                }
            yield row


def _implementations(op: str, backends: list, compiled: bool) -> dict[str, Callable]:
    steps = getattr(lesionkit, f"{op}_attention_reference")
    collapsed = COLLAPSED[op].collapsed
    functions = {name: _with_backend(op, name) for name in backends}
    functions |= {"eager, the paper's steps": steps, "eager, collapsed": collapsed}
    if compiled:
        functions |= {
            "compiled, the paper's steps": torch.compile(steps, dynamic=False),
            "compiled, collapsed": torch.compile(collapsed, dynamic=False),
        }
    return functions


def _with_backend(op: str, backend: str) -> Callable:
    function = getattr(lesionkit, f"{op}_attention")

    def call(*tensors):
        with lesionkit.use_backend(backend):
            return function(*tensors)

    return call


def _forward(function: Callable) -> Callable:
    def call(*tensors):
        with torch.no_grad():
            return function(*tensors[:-1])

    return call


def _forward_and_backward(function: Callable) -> Callable:
    def call(*tensors):
        *leaves, grad = tensors
        return torch.autograd.grad(function(*leaves), leaves, grad)

    return call


def _inputs(shape: tuple, dtype: torch.dtype, streams: int) -> Callable:
    """Makes x and the logits, which want gradients, and the gradient of the result."""

    def make():
        tensors = [torch.randn(shape, device=device()).to(dtype) for _ in range(streams + 1)]
        return *(tensor.requires_grad_() for tensor in tensors[:-1]), tensors[-1]

    return make


def _host_row(op: str, backends: list) -> dict:
    """What a call without a gradient costs the host, in microseconds by backend."""
    streams = 3 if op == "dual" else 2
    tensors = _inputs((1, 3, 8, 8, 8), torch.float32, streams)()
    seconds = {name: call_seconds(_forward(_with_backend(op, name)), tensors) for name in backends}
    function = getattr(lesionkit, f"{op}_attention")
    seconds["auto"] = call_seconds(_forward(function), tensors)
    calls = {name: value * 1e6 for name, value in seconds.items()}
    bytes_of_inputs = total_bytes(tensors)
    return {"op": op, "direction": "host", "call_microseconds": calls, "bytes": bytes_of_inputs}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
