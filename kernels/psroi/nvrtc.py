"""PSROI pooling by the CUDA kernels, compiled at first use."""

import numpy as np
import torch
from lesionkit.kernels.common import nvrtc
from torch import Tensor

_FORWARD_THREADS = 256
_BACKWARD_WARPS = 4
_STRIP = 64  # cells of a plane that a warp owns in the backward
_CONVENTIONS = ("rfcn", "torchvision")


def forward(
    features: Tensor, rois: Tensor, bins: int, spatial_scale: float, convention: str
) -> Tensor:
    """[K, C, G, G] of contiguous features [B, C*G*G, H, W] and rois [K, 5], CUDA."""
    pooled = features.new_empty(rois.shape[0], features.shape[1] // bins**2, bins, bins)
    if pooled.numel():
        nvrtc.run(forward_launch(features, rois, pooled, spatial_scale, convention))
    return pooled


def backward(
    grad: Tensor,
    rois: Tensor,
    batch: int,
    height: int,
    width: int,
    spatial_scale: float,
    convention: str,
) -> Tensor:
    """The gradient [B, C*G*G, H, W] of the features."""
    _, channels, bins, _ = grad.shape
    result = grad.new_empty(batch, channels * bins**2, height, width)
    if result.numel():
        nvrtc.run(backward_launch(grad, rois, result, spatial_scale, convention))
    return result


def forward_launch(
    features: Tensor, rois: Tensor, pooled: Tensor, spatial_scale: float, convention: str
) -> nvrtc.Launch:
    count, bins = pooled.shape[0], pooled.shape[2]
    batch, outputs, height, width = features.shape
    total = count * outputs
    per_thread = 1 if total < 2**18 else 2 if total < 2**19 else 4
    chunks = nvrtc.divide_up(outputs, _FORWARD_THREADS * per_thread)
    arguments = (
        *(features, rois, pooled, np.int64(count), np.int64(batch), np.int64(outputs)),
        *map(np.int32, (bins, height, width)),
        *(_scale(rois, spatial_scale), _number(convention), np.int32(per_thread)),
    )
    grid = min(count, nvrtc.LARGEST_GRID_X), min(chunks, nvrtc.LARGEST_GRID_Y), 1
    name = nvrtc.template("forward", features.dtype, rois.dtype)
    return nvrtc.Launch("psroi", name, grid, _FORWARD_THREADS, arguments)


def backward_launch(
    grad: Tensor, rois: Tensor, result: Tensor, spatial_scale: float, convention: str
) -> nvrtc.Launch:
    count, channels, bins, _ = grad.shape
    batch, _, height, width = result.shape
    groups = nvrtc.divide_up(channels * bins, nvrtc.WARP)
    grid = (
        nvrtc.divide_up(height * width, _BACKWARD_WARPS * _STRIP),
        min(groups * bins, nvrtc.LARGEST_GRID_Y),
        min(batch, nvrtc.LARGEST_GRID_Y),
    )
    arguments = (
        *(grad, rois, result, np.int64(count), np.int64(batch), np.int64(channels)),
        *map(np.int32, (bins, height, width)),
        *(_scale(rois, spatial_scale), _number(convention)),
    )
    name = nvrtc.template("backward", grad.dtype, rois.dtype)
    return nvrtc.Launch("psroi", name, grid, _BACKWARD_WARPS * nvrtc.WARP, arguments)


def _scale(rois: Tensor, spatial_scale: float) -> np.generic:
    return np.float64(spatial_scale) if rois.dtype == torch.float64 else np.float32(spatial_scale)


def _number(convention: str) -> np.int32:
    return np.int32(_CONVENTIONS.index(convention))
