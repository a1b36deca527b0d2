"""Dual attention by the CUDA kernels, compiled at first use."""

import numpy as np
import torch
from lesionkit.kernels.common import nvrtc
from torch import Tensor

_MOST_IMAGES = 128


def forward(
    x: Tensor,
    contextual: Tensor,
    spatial: Tensor,
    contextual_temperature: float,
    spatial_temperature: float,
) -> Tensor:
    """Both weights times x; contiguous [B, M, D, H, W], CUDA."""
    y = torch.empty_like(x)
    if x.numel():
        read = _in_one_type(contextual, spatial)
        nvrtc.run(forward_launch(x, *read, y, contextual_temperature, spatial_temperature))
    return y


def backward(
    grad: Tensor,
    x: Tensor,
    contextual: Tensor,
    spatial: Tensor,
    contextual_temperature: float,
    spatial_temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x and both sets of logits."""
    read = _in_one_type(contextual, spatial)
    results = [torch.empty_like(tensor) for tensor in (x, *read)]
    if x.numel():
        temperatures = contextual_temperature, spatial_temperature
        nvrtc.run(backward_launch(grad, x, *read, *results, *temperatures))
    dx, dcontextual, dspatial = results
    return dx, dcontextual.to(contextual.dtype), dspatial.to(spatial.dtype)


def forward_launch(
    x: Tensor,
    contextual: Tensor,
    spatial: Tensor,
    y: Tensor,
    contextual_temperature: float,
    spatial_temperature: float,
) -> nvrtc.Launch:
    scalars = nvrtc.exp2_scale(contextual_temperature), nvrtc.exp2_scale(spatial_temperature)
    return _launch("forward", (x, contextual, spatial, y), x, contextual, scalars, 33)


def backward_launch(
    grad: Tensor,
    x: Tensor,
    contextual: Tensor,
    spatial: Tensor,
    dx: Tensor,
    dcontextual: Tensor,
    dspatial: Tensor,
    contextual_temperature: float,
    spatial_temperature: float,
) -> nvrtc.Launch:
    temperatures = contextual_temperature, spatial_temperature
    scalars = *map(nvrtc.exp2_scale, temperatures), *map(nvrtc.inverse, temperatures)
    tensors = grad, x, contextual, spatial, dx, dcontextual, dspatial
    return _launch("backward", tensors, x, contextual, scalars, 66)


def _in_one_type(contextual: Tensor, spatial: Tensor) -> tuple[Tensor, Tensor]:
    """The kernels read both sets of logits in one type: their own, or float32 where they differ."""
    if contextual.dtype == spatial.dtype:
        return contextual, spatial
    return contextual.float(), spatial.float()


def _launch(
    name: str,
    tensors: tuple[Tensor, ...],
    x: Tensor,
    logits: Tensor,
    scalars: tuple[np.float32, ...],
    shared_floats: int,
) -> nvrtc.Launch:
    samples, images, channels, height, width = x.shape
    if images > _MOST_IMAGES:
        raise ValueError(
            f"x must have at most {_MOST_IMAGES} images on a CUDA device, got {images}"
        )
    cells = height * width
    lanes = nvrtc.vector_lanes(channels * cells, *tensors)
    unrolled = nvrtc.unrolled_images(x, logits, lanes)
    numbers = unrolled * lanes
    most_threads = 128 if numbers >= 72 else 192 if numbers >= 28 else 256
    return nvrtc.Launch(
        "dual",
        nvrtc.template(name, x.dtype, logits.dtype, lanes, unrolled),
        nvrtc.folded(samples * channels),
        nvrtc.whole_warps(min(nvrtc.divide_up(cells, lanes), most_threads)),
        (
            *(*tensors, np.int64(samples), np.int32(images), np.int64(channels), np.int64(cells)),
            *scalars,
        ),
        shared_bytes=images * shared_floats * 4,
    )
