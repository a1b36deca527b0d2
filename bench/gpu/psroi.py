"""PSROI pooling on a GPU beside torchvision and the bytes that it must move.

The floor of the forward is one read of the features and one write of the result; of the backward
one read of the gradient and one write of the features' gradient. Rows as in bench.gpu.attention;
both directions are timed alone, ours and torchvision's. torchvision takes no bfloat16, and wants
the rois in the type of the features.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
import torchvision

import lesionkit
from bench.gpu import direct, timing
from bench.gpu.points import Point
from bench.psroi import lesion_boxes

BINS = 7
PIXELS = 512  # of an image's side


def rows(point: Point, compiled: bool = True) -> Iterator[dict]:
    """All rows of one size and type, ours first; torch.compile has nothing to compile here."""
    dtype = getattr(torch, point.dtype)
    batch, maps, height, width = point.shape
    scale = width / PIXELS
    torch.manual_seed(0)  # also draws the boxes
    rois = lesion_boxes(point.rois).to(timing.device())
    pooled = (point.rois, maps // BINS**2, BINS, BINS)
    moved = (point.numel + torch.Size(pooled).numel()) * dtype.itemsize
    sets = [
        tuple(torch.randn(size, device=timing.device()).to(dtype) for size in (point.shape, pooled))
        for _ in range(timing.num_sets(moved))
    ]
    features, grads = ([(tensors[i],) for tensors in sets] for i in (0, 1))
    copy = timing.copy_seconds(moved // 2)
    facts = {way: point.facts | {"direction": way} for way in ("forward", "backward")}
    for name in lesionkit.available_backends(timing.device()):
        if name == "reference":
            continue
        row = facts["forward"] | {"implementation": name}
        call, context = _forward(rois, scale), partial(direct.running, name, torch.no_grad)
        yield timing.measured(row, call, features, context, moved, copy)
        row = facts["backward"] | {"implementation": name}
        call = _backward(name, rois, (batch, height, width), scale)
        yield timing.measured(row, call, grads, torch.inference_mode, moved, copy)
    if dtype == torch.bfloat16:
        return
    alike = rois.to(dtype)
    row = facts["forward"] | {"implementation": "torchvision"}
    yield timing.measured(row, _peer_forward(alike, scale), features, torch.no_grad)
    row = facts["backward"] | {"implementation": "torchvision"}
    call = _peer_backward(sets[0][0], alike, scale)
    yield timing.measured(row, call, grads, torch.inference_mode)


def _forward(rois: torch.Tensor, scale: float) -> Callable:
    return lambda features: lesionkit.ps_roi_pool(features, rois, BINS, scale)


def _backward(backend: str, rois: torch.Tensor, size: tuple, scale: float) -> Callable:
    backward = direct.op("psroi", backend, backward=True)
    return lambda grad: backward(grad, rois, *size, scale, "rfcn")


def _peer_forward(rois: torch.Tensor, scale: float) -> Callable:
    return lambda features: torchvision.ops.ps_roi_pool(features, rois, BINS, scale)


def _peer_backward(features: torch.Tensor, rois: torch.Tensor, scale: float) -> Callable:
    ops = torch.ops.torchvision
    backward, shape = ops._ps_roi_pool_backward.default, features.shape

    @cache
    def table():
        """What the forward hands its backward; it depends on the sizes alone."""
        return ops.ps_roi_pool.default(features, rois, scale, BINS, BINS)[1]

    return lambda grad: backward(grad, rois, table(), scale, BINS, BINS, *shape)
