"""Small cases of every kernel, for compute-sanitizer: python -m bench.gpu.sanitize BACKEND [core]

The sanitizer slows kernels a hundredfold, so the sizes are the smallest that take every path of the
launch tables: every unrolled number of images and a looped one, planes that a warp, a block and no
registers hold, whole vectors and edges, addresses off the vectors, every type and mixed ones.
Inputs come from the host and the ops are called directly, so that hardly any kernel but ours runs.
With `core` one case of each op runs.
"""

import sys
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from bench.gpu import direct

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
SAME = ((F32, F32), (BF16, BF16), (F16, F16))
MIXED = ((F32, BF16), (BF16, F32), (F16, F32), (F32, F16))


class Case(NamedTuple):
    """An attention op on x [B, M, D, H, W]; `offset` elements lie between x and its memory's."""

    op: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    logits_dtype: torch.dtype
    offset: int = 0


# Spatial planes. With vectors of 4 or 8 numbers: 1, 2 or 4 of them for a lane of a warp, 4 or 8
# for a thread of a block, and planes beyond; each with whole vectors, then with an incomplete one.
PLANES = [
    ((8, 8), (7, 9)),
    ((14, 16), (15, 15)),
    ((16, 30), (21, 23)),
    ((30, 32), (31, 33)),
    ((64, 64), (63, 65)),
    ((100, 100), (101, 99)),
    ((160, 164), (160, 161)),
]
# PSROI: [B, C*G*G, H, W], G and rois. In the last two a thread has 2 and 4 outputs.
POOLINGS = [
    ((1, 98, 24, 24), 7, 20),
    ((2, 12, 37, 41), 2, 70),
    ((1, 1, 150, 105), 1, 5),
    ((1, 490, 8, 8), 7, 600),
    ((1, 490, 8, 8), 7, 1200),
]


def attention_cases() -> Iterator[Case]:
    for types in SAME:
        for images in (1, 2, 3, 5, 7, 9, 16):
            for op in ("contextual", "dual"):
                yield Case(op, (1, images, 2, 8, 8), *types)
        for op in ("contextual", "dual"):
            yield Case(op, (2, 5, 3, 5, 7), *types)
            yield Case(op, (1, 3, 2, 8, 8), *types, offset=1)
            yield Case(op, (1, 1, 1, 1, 1), *types)
        for images in (3, 9):  # planes that Triton loops over
            yield Case("dual", (1, images, 1, 65, 64), *types)
        for pair in PLANES:
            for height, width in pair:
                yield Case("spatial", (1, 1, 2, height, width), *types)
        yield Case("spatial", (2, 3, 3, 8, 8), *types)
        yield Case("spatial", (1, 1, 2, 8, 8), *types, offset=1)
    for types in MIXED:
        for op in ("contextual", "spatial", "dual"):
            yield Case(op, (1, 3, 2, 8, 8), *types)
            yield Case(op, (1, 2, 2, 5, 7), *types)
        yield Case("contextual", (1, 16, 2, 8, 8), *types)
        yield Case("spatial", (1, 1, 1, 160, 161), *types)


def pooling_cases() -> Iterator[tuple]:
    """Sizes, bins and rois with every type of features and rois, and both conventions."""
    yield from product(POOLINGS, (F32, F16, BF16), (F32, torch.float64), ("rfcn", "torchvision"))


def tensor(shape: tuple[int, ...], dtype: torch.dtype, device: str, offset: int = 0) -> Tensor:
    """Random numbers, copied from the host."""
    numbers = torch.randn(offset + torch.Size(shape).numel()).to(dtype).to(device)
    return numbers[offset:].view(shape)


def attend(case: Case, backend: str, device: str) -> None:
    logits = 2 if case.op == "dual" else 1
    types = (case.dtype, case.dtype, *(case.logits_dtype,) * logits)
    grad, *inputs = (tensor(case.shape, dtype, device, case.offset) for dtype in types)
    temperatures = direct.TEMPERATURES[case.op]
    direct.op(case.op, backend)(*inputs, *temperatures)
    direct.op(case.op, backend, backward=True)(grad, *inputs, *temperatures)


def pool(case: tuple, backend: str, device: str) -> None:
    ((batch, channels, height, width), bins, count), dtype, rois_dtype, convention = case
    features = tensor((batch, channels, height, width), dtype, device)
    index = torch.randint(batch, (count, 1))
    ends = torch.rand(count, 2, 2).sort(1).values.flatten(1) * 8 * width
    rois = torch.cat([index, ends], dim=1).to(rois_dtype).to(device)
    grad = tensor((count, channels // bins**2, bins, bins), dtype, device)
    direct.op("psroi", backend)(features, rois, bins, 1 / 8, convention)
    backward = direct.op("psroi", backend, backward=True)
    backward(grad, rois, batch, height, width, 1 / 8, convention)


def core_cases() -> tuple[list[Case], list[tuple]]:
    """One of each op, of several warps, with an edge."""
    ops = [Case(op, (1, 3, 2, 15, 15), F32, F32) for op in ("contextual", "spatial", "dual")]
    return ops, [(POOLINGS[0], F32, F32, "rfcn")]


def main(backend: str, core: str = "", device: str = "cuda") -> None:
    torch.manual_seed(0)
    every = core_cases() if core else (attention_cases(), pooling_cases())
    with torch.inference_mode():
        for case in every[0]:
            attend(case, backend, device)
        for case in every[1]:
            pool(case, backend, device)
    if device == "cuda":
        torch.cuda.synchronize()
    print(f"{backend}: every kernel ran")


if __name__ == "__main__":
    main(*sys.argv[1:])
