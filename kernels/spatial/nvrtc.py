"""Spatial attention by the CUDA kernels, compiled at first use."""

import numpy as np
import torch
from lesionkit.kernels.common import nvrtc
from torch import Tensor

_THREADS = 512
_NUMBERS = 32  # of each tensor in a thread's registers
_WARPS = 4  # of a block whose warps have a plane each


def forward(x: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """x * exp((logits - max_hw logits) / temperature); contiguous [B, M, D, H, W], CUDA."""
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
    return _launch("forward", (x, logits, y), x, logits, (nvrtc.exp2_scale(temperature),))


def backward_launch(
    grad: Tensor, x: Tensor, logits: Tensor, dx: Tensor, dlogits: Tensor, temperature: float
) -> nvrtc.Launch:
    scalars = nvrtc.exp2_scale(temperature), nvrtc.inverse(temperature)
    return _launch("backward", (grad, x, logits, dx, dlogits), x, logits, scalars)


def _in_registers(cells: int, lanes: int) -> tuple[int, bool] | None:
    """Vectors per thread, and whether a warp has a plane or a block; None for larger planes."""
    vectors = nvrtc.divide_up(cells, lanes)
    for each in (1, 2, 4):
        if vectors <= each * nvrtc.WARP:
            return each, True
    for each in (4, 8):
        if each * lanes <= _NUMBERS and vectors <= each * _THREADS:
            return each, False
    return None


def _launch(
    name: str,
    tensors: tuple[Tensor, ...],
    x: Tensor,
    logits: Tensor,
    scalars: tuple[np.float32, ...],
) -> nvrtc.Launch:
    planes, cells = x.shape[:3].numel(), x.shape[3:].numel()
    lanes = nvrtc.vector_lanes(0, *tensors)  # tails of planes are the kernels' business
    plan = _in_registers(cells, lanes) if lanes > 1 and x.dtype == logits.dtype else None
    if plan is None:
        threads = nvrtc.whole_warps(min(nvrtc.divide_up(cells, lanes), _THREADS))
        full_name = nvrtc.template(f"{name}_any", x.dtype, logits.dtype, lanes)
        arguments = *tensors, np.int64(planes), np.int64(cells), *scalars
        return nvrtc.Launch("spatial", full_name, nvrtc.folded(planes), threads, arguments)
    each, warp = plan
    full_name = nvrtc.template(name, x.dtype, lanes, each, cells % lanes != 0, warp)
    arguments = *tensors, np.int64(planes), np.int32(cells), *scalars
    if warp:
        grid, threads = nvrtc.folded(nvrtc.divide_up(planes, _WARPS)), _WARPS * nvrtc.WARP
    else:
        vectors = nvrtc.divide_up(cells, lanes)
        grid, threads = nvrtc.folded(planes), nvrtc.whole_warps(nvrtc.divide_up(vectors, each))
    return nvrtc.Launch("spatial", full_name, grid, threads, arguments)
