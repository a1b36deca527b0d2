"""CuPy arrays in and out, without a copy."""

from collections.abc import Callable

import torch
from torch import Tensor


def is_cupy(value: object) -> bool:
    """Whether `value` is a CuPy array; CuPy itself is not imported."""
    return not isinstance(value, Tensor) and type(value).__module__.partition(".")[0] == "cupy"


def call_with_cupy(op: Callable, *arguments: object) -> object:
    """Call `op` with CuPy arrays as tensors of the same memory; its result as a CuPy array.

    Both libraries order the exchange by their current streams (DLPack). CuPy keeps no graph, so
    the result carries no gradient.
    """
    import cupy

    return cupy.from_dlpack(op(*map(_as_tensors, arguments)).detach())


def _as_tensors(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_as_tensors(item) for item in value]
    return torch.from_dlpack(value) if is_cupy(value) else value
