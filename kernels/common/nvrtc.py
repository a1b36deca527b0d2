"""Compiles the CUDA kernels at first use and launches them, through CuPy."""

import functools
import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.float16: "lesionkit::device::Half",
    torch.bfloat16: "lesionkit::device::BFloat16",
}
OPTIONS = ("-std=c++20",)
UNROLLED_IMAGES = (3, 5, 7, 9)

WARP = 32
LARGEST_GRID_X = 2**31 - 1
LARGEST_GRID_Y = 65535

_KERNELS = Path(__file__).parents[1]


class Launch(NamedTuple):
    """One kernel with all it is started with."""

    kernel: str  # its folder in kernels/
    name: str  # with template arguments
    grid: tuple[int, int, int]
    threads: int
    arguments: tuple[Tensor | np.generic, ...]  # NumPy scalars have the parameters' exact types
    shared_bytes: int = 0

    @property
    def expression(self) -> str:
        return f"lesionkit::{self.kernel}::{self.name}"


@functools.cache
def source(kernel: str) -> str:
    """The kernel's source with its headers in it, each once.

    In one piece CuPy's cache on disk sees a change in any of them.
    """
    included = set()

    def text(name: str) -> str:
        if name in included:
            return ""
        included.add(name)
        whole = (_KERNELS / name).read_text().replace("#pragma once\n", "")
        return re.sub(r'#include "(.+)"\n', lambda match: text(match[1]), whole)

    return text(f"{kernel}/kernel.cuh")


@functools.cache
def _compiled(kernel: str, expression: str) -> object:
    # A module of one instance each: the first call waits for what it needs and no more. CuPy keeps
    # the binary in memory for each device and on disk.
    import cupy

    module = cupy.RawModule(code=source(kernel), options=OPTIONS, name_expressions=(expression,))
    return module.get_function(expression)


class _TorchStream:
    """A stream by its address, for the protocol that CuPy takes streams of others by."""

    def __init__(self, address: int):
        self.address = address

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.address


def run(launch: Launch) -> None:
    """Queue the launch on torch's current stream of its tensors' device."""
    import cupy

    device = launch.arguments[0].device
    if device.type != "cuda":
        raise RuntimeError(f"backend 'nvrtc' runs on CUDA tensors, not on {device.type}")
    arguments = tuple(
        np.int64(value.data_ptr()) if isinstance(value, Tensor) else value
        for value in launch.arguments
    )
    stream = _TorchStream(torch.cuda.current_stream(device).cuda_stream)
    with cupy.cuda.Device(device.index):
        _compiled(launch.kernel, launch.expression)(
            launch.grid,
            (launch.threads, 1, 1),
            arguments,
            shared_mem=launch.shared_bytes,
            stream=cupy.cuda.Stream.from_external(stream),
        )


# The launch tables of csrc/cuda, in numbers that never overflow.


def divide_up(number: int, by: int) -> int:
    return -(-number // by)


def whole_warps(threads: int) -> int:
    return divide_up(threads, WARP) * WARP


def folded(blocks: int) -> tuple[int, int, int]:
    """A grid of at least `blocks` blocks: rows of the largest length."""
    return min(blocks, LARGEST_GRID_X), divide_up(blocks, LARGEST_GRID_X), 1


def vector_lanes(extent: int, *tensors: Tensor) -> int:
    """How many neighbours a thread takes: a 16-byte vector of the widest type, or one number.

    One where `extent`, the distance that must hold whole vectors, or an address does not allow it.
    """
    lanes = 16 // max(tensor.element_size() for tensor in tensors)
    aligned = all(tensor.data_ptr() % (lanes * tensor.element_size()) == 0 for tensor in tensors)
    return lanes if aligned and extent % lanes == 0 else 1


def unrolled_images(x: Tensor, logits: Tensor, lanes: int) -> int:
    """The number of images that a kernel is unrolled for; 0 if none is."""
    images = x.shape[1]
    unrolled = x.dtype == logits.dtype and lanes != 1 and images in UNROLLED_IMAGES
    return images if unrolled else 0


def template(name: str, *arguments: object) -> str:
    """A kernel's name with template arguments: types, numbers and truth values."""
    words = {True: "true", False: "false"}
    texts = (
        TYPES[value]
        if isinstance(value, torch.dtype)
        else words[value]
        if isinstance(value, bool)
        else str(value)
        for value in arguments
    )
    return f"{name}<{', '.join(texts)}>"


def exp2_scale(temperature: float) -> np.float32:
    """log2(e) / T, kept normal (csrc/temperature.h)."""
    return np.float32(min(max(math.log2(math.e) / temperature, 2.0**-126), 2.0**127))


def inverse(temperature: float) -> np.float32:
    """1 / T, kept finite (csrc/temperature.h)."""
    return np.float32(min(1 / temperature, 2.0**127))
