"""Contextual attention by the CUDA kernels, compiled at first use."""

import numpy as np
import torch
from lesionkit.kernels.common import nvrtc
from torch import Tensor

_THREADS = 128


def forward(x: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """x * exp((logits - max_m logits) / temperature); contiguous [B, M, D, H, W], CUDA."""
    y = torch.empty_like(x)
    if x.numel():
        nvrtc.run(forward_launch(x, logits, y, temperature))
    return y


def backward(grad: Tensor, x: Tensor, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The gradients of x and logits."""
    dx, dlogits = torch.empty_like(x), torch.empty_like(logits)
    if x.numel():
        nvrtc.run(backward_launch(grad, x, logits, dx, dlogits, temperature))
    return dx, dlogits


def forward_launch(x: Tensor, logits: Tensor, y: Tensor, temperature: float) -> nvrtc.Launch:
    lanes = nvrtc.vector_lanes(_columns(x), x, logits, y)
    scalars = (nvrtc.exp2_scale(temperature),)
    return _launch("forward", (x, logits, y), x, logits, lanes, _THREADS, scalars)


def backward_launch(
    grad: Tensor, x: Tensor, logits: Tensor, dx: Tensor, dlogits: Tensor, temperature: float
) -> nvrtc.Launch:
    tensors = grad, x, logits, dx, dlogits
    lanes = nvrtc.vector_lanes(_columns(x), *tensors)
    most_threads = 64 if nvrtc.unrolled_images(x, logits, lanes) * lanes >= 72 else _THREADS
    scalars = nvrtc.exp2_scale(temperature), nvrtc.inverse(temperature)
    return _launch("backward", tensors, x, logits, lanes, most_threads, scalars)


def _columns(x: Tensor) -> int:
    return x.shape[2] * x.shape[3] * x.shape[4]


def _launch(
    name: str,
    tensors: tuple[Tensor, ...],
    x: Tensor,
    logits: Tensor,
    lanes: int,
    most_threads: int,
    scalars: tuple[np.float32, ...],
) -> nvrtc.Launch:
    samples, images, columns = x.shape[0], x.shape[1], _columns(x)
    vectors = nvrtc.divide_up(columns, lanes)
    threads = nvrtc.whole_warps(min(vectors, most_threads))
    grid = (
        nvrtc.divide_up(vectors, threads),
        min(samples, nvrtc.LARGEST_GRID_Y),
        nvrtc.divide_up(samples, nvrtc.LARGEST_GRID_Y),
    )
    unrolled = nvrtc.unrolled_images(x, logits, lanes)
    if unrolled:
        full_name = nvrtc.template(name, x.dtype, logits.dtype, lanes, unrolled)
        sizes = np.int64(samples), np.int64(columns)
    else:
        full_name = nvrtc.template(f"{name}_any", x.dtype, logits.dtype, lanes)
        sizes = np.int64(samples), np.int64(images), np.int64(columns)
    return nvrtc.Launch("contextual", full_name, grid, threads, (*tensors, *sizes, *scalars))
