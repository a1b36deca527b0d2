"""Launches of the NVRTC route for tensors of every kind that its tables tell apart."""

from collections.abc import Iterator
from importlib import import_module
from itertools import product

import torch
from lesionkit.kernels.common.nvrtc import Launch
from torch import Tensor

from tests.csrc.emulated import misaligned

TYPES = [torch.float32, torch.float16, torch.bfloat16]
ATTENTION = ["contextual", "spatial", "dual"]
# B, M, D, H, W: every unrolled M and others; planes for 1, 2 and 4 vectors of a warp and for 4 and
# 8 of a block, in both widths of numbers, larger ones, whole vectors and not.
SHAPES = [
    *((2, images, 2, 4, 8) for images in (1, 2, 3, 5, 7, 9, 11)),
    *((1, 3, 1, 1, cells) for cells in (128, 256, 500, 512, 1000, 1024, 4096, 5000, 8192)),
    *(
        (1, 5, 3, *plane)
        for plane in ((5, 7), (64, 64), (96, 96), (128, 128), (101, 131), (160, 130))
    ),
    (1, 9, 1, 3, 1),
]
ROIS = [
    # K, B, C, G, H, W
    (1, 1, 1, 1, 1, 1),
    (9, 2, 3, 7, 20, 13),
    (600, 1, 10, 7, 8, 8),  # two outputs per thread
    (1200, 1, 10, 7, 3, 130),  # four
    (3, 4, 40, 2, 40, 40),
]


def attention_tensors(
    kernel: str, shape: tuple[int, ...], x_type: torch.dtype, logits_type: torch.dtype, offset: int
) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors of the forward and of the backward, in the launchers' order."""

    def like(dtype: torch.dtype) -> Tensor:
        return misaligned(torch.zeros(shape, dtype=dtype), offset)

    logits = [like(logits_type) for _ in range(2 if kernel == "dual" else 1)]
    results = [like(x_type), *(like(logits_type) for _ in logits)]
    forward = [like(x_type), *logits, like(x_type)]
    return forward, [like(x_type), *forward[:-1], *results]


def temperatures_of(kernel: str) -> tuple[float, ...]:
    return (2.0, 3.0) if kernel == "dual" else (1.7,)


def attention_launches(kernel: str) -> Iterator[Launch]:
    module = import_module(f"lesionkit.kernels.{kernel}.nvrtc")
    for shape, x_type, logits_type, offset in product(SHAPES, TYPES, TYPES, (0, 1)):
        tensors = attention_tensors(kernel, shape, x_type, logits_type, offset)
        yield module.forward_launch(*tensors[0], *temperatures_of(kernel))
        yield module.backward_launch(*tensors[1], *temperatures_of(kernel))


def psroi_tensors(
    sizes: tuple[int, ...], dtype: torch.dtype, rois_type: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Features, rois and pooled results; the backward's in reverse order."""
    count, batch, channels, bins, height, width = sizes
    features = torch.zeros(batch, channels * bins**2, height, width, dtype=dtype)
    rois = torch.zeros(count, 5, dtype=rois_type)
    return features, rois, torch.zeros(count, channels, bins, bins, dtype=dtype)


def psroi_launches() -> Iterator[Launch]:
    module = import_module("lesionkit.kernels.psroi.nvrtc")
    for sizes, dtype, rois_type in product(ROIS, TYPES, (torch.float32, torch.float64)):
        features, rois, pooled = psroi_tensors(sizes, dtype, rois_type)
        yield module.forward_launch(features, rois, pooled, 0.125, "rfcn")
        yield module.backward_launch(pooled, rois, features, 0.125, "rfcn")


def expressions(kernel: str) -> list[str]:
    """All kernels that the route can ask for, by their C++ names."""
    launches = psroi_launches() if kernel == "psroi" else attention_launches(kernel)
    return sorted({launch.expression for launch in launches})
