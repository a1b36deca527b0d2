"""Lets tests that are written for CPU tensors run an op on the GPU."""

from collections.abc import Callable

import torch
from torch import Tensor

DEVICE = "cuda"


class _Move(torch.autograd.Function):
    """A copy on the GPU with the same strides and offset, so that odd layouts stay odd."""

    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        if tensor.numel() == 0:
            return torch.empty_like(tensor, device=DEVICE)
        if 0 in tensor.stride():  # expanded: several elements in one place
            tensor = tensor.contiguous()
        extents = zip(tensor.shape, tensor.stride(), strict=True)
        offset = tensor.storage_offset()
        length = offset + 1 + sum((size - 1) * stride for size, stride in extents)
        storage = torch.full((length,), float("nan"), dtype=tensor.dtype, device=DEVICE)
        return storage.as_strided(tensor.shape, tensor.stride(), offset).copy_(tensor)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad.cpu()


def on_gpu(op: Callable) -> Callable:
    """`op` with CPU tensors in and out, computed on the GPU."""

    def move(value: object) -> object:
        if isinstance(value, list | tuple):
            return [move(item) for item in value]
        if isinstance(value, Tensor) and value.device.type == "cpu" and value.dim() > 0:
            return _Move.apply(value) if value.is_floating_point() else value.to(DEVICE)
        return value

    def call(*arguments, **options):
        return op(*map(move, arguments), **options).cpu()

    return call
