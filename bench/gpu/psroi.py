"""PSROI pooling on a GPU beside torchvision and the bytes that it must move.

The floor of the forward is one read of the features and one write of the result; of the backward
one read of the gradient and one write of the features' gradient. Rows as in bench.gpu.attention.
"""

from collections.abc import Callable, Iterator

import torch
import torchvision

import lesionkit
from bench.gpu.timing import call_seconds, cold_seconds, copy_seconds, device, num_sets
from bench.psroi import lesion_boxes

# (M, side of the feature grid, spatial scale, rois): stride 8 and 16; tests keep 300, training 128.
CASES = [
    (5, 64, 1 / 8, 300),
    (9, 64, 1 / 8, 300),
    (9, 64, 1 / 8, 128),
    (3, 64, 1 / 8, 300),
    (7, 64, 1 / 8, 300),
    (5, 64, 1 / 8, 32),
    (5, 32, 1 / 16, 300),
    (9, 32, 1 / 16, 300),
]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAPS = 490  # channels of one image: 10 * 7 * 7


def rows(maps: int = MAPS, cases=CASES) -> Iterator[dict]:
    """All rows; the cases that matter most come first."""
    backends = [name for name in lesionkit.available_backends(device()) if name != "reference"]
    for images, side, scale, count in cases:
        for dtype in DTYPES:
            yield from _of_case(images, side, scale, count, dtype, maps, backends)


def _of_case(images, side, scale, count, dtype, maps, backends) -> Iterator[dict]:
    shape = (1, maps * images, side, side)
    rois = lesion_boxes(count).to(device())
    functions = {name: _with_backend(name, scale) for name in backends}
    if dtype != torch.bfloat16:  # torchvision has none
        alike = rois.to(dtype)  # and wants the rois in the type of the features
        functions["torchvision"] = lambda x, _: torchvision.ops.ps_roi_pool(x, alike, 7, scale)
    pooled_size = count * maps * images * dtype.itemsize
    moved = torch.empty(shape, dtype=dtype, device="meta").nbytes + pooled_size
    sets = [
        (torch.randn(shape, device=device()).to(dtype).requires_grad_(), rois)
        for _ in range(num_sets(moved))
    ]
    copy = copy_seconds(moved // 2)
    for name, call in functions.items():
        for direction, timed in _directions(call, sets):
            seconds = timed()
            yield {
                "op": "psroi",
                "shape": list(shape),
                "rois": count,
                "dtype": str(dtype).removeprefix("torch."),
                "direction": direction,
                "implementation": name,
                "microseconds": seconds * 1e6,
                "bytes": moved,
                "bytes_per_second": moved / seconds,
                "fraction_of_copy": copy / seconds,
                "call_microseconds": call_seconds(_without_grad(call), sets[0], 100) * 1e6,
            }


def _directions(call: Callable, sets: list) -> Iterator[tuple[str, Callable[[], float]]]:
    yield "forward", lambda: cold_seconds(_without_grad(call), sets)

    # A graph for each set, kept, so that the backward is timed alone.
    kept = [(call(x, rois), x) for x, rois in sets]
    grads = [(pooled, x, torch.randn_like(pooled)) for pooled, x in kept]

    def backward(pooled, x, grad):
        return torch.autograd.grad(pooled, x, grad, retain_graph=True)

    yield "backward", lambda: cold_seconds(backward, grads)


def _without_grad(call: Callable) -> Callable:
    def run(*arguments):
        with torch.no_grad():
            return call(*arguments)

    return run


def _with_backend(backend: str, scale: float) -> Callable:
    def call(features, rois):
        with lesionkit.use_backend(backend):
            return lesionkit.ps_roi_pool(features, rois, 7, scale)

    return call
