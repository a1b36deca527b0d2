"""Argument checks that all ops share. Each message names the argument, its value and the remedy."""

import sys

import numpy as np
import torch
from torch import Tensor

MOST_BINS = 1 << 15  # of PSROI pooling, per side; the kernels count cells of a bin in 32 bits
FLOAT_TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def check_float_tensor(name: str, value: object) -> None:
    """TypeError unless `value` is a tensor of one of the four float types."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.dtype not in FLOAT_TYPES:
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOAT_TYPES)
        raise TypeError(f"{name} must be of type {allowed}, got {value.dtype}")
    if value.layout != torch.strided:
        raise TypeError(f"{name} must be dense, got {value.layout}; use {name}.to_dense()")


def check_positive(name: str, value: object) -> None:
    """TypeError or ValueError unless `value` is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise TypeError(f"{name} must be a float, got {value!r}")
    if not 0 < float(value) <= sys.float_info.max:
        raise ValueError(f"{name} must be finite and above 0, got {value}")


def check_output_size(value: object) -> None:
    """TypeError or ValueError unless `value` is a number of bins per side."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"output_size must be an int, got {value!r}")
    if not 1 <= value <= MOST_BINS:
        raise ValueError(f"output_size must be 1 to {MOST_BINS}, got {value}")


def check_attention(x: Tensor, **logits: Tensor) -> None:
    """TypeError or ValueError unless x is [B, M, D, H, W] and the logits are like it."""
    check_float_tensor("x", x)
    if x.dim() != 5:
        raise ValueError(f"x must be [B, M, D, H, W], got shape {tuple(x.shape)}")
    for name, tensor in logits.items():
        check_float_tensor(name, tensor)
        if tensor.shape != x.shape:
            raise ValueError(
                f"{name} must have x's shape {tuple(x.shape)}, got {tuple(tensor.shape)}"
            )
        if tensor.device != x.device:
            raise ValueError(f"{name} must be on x's device {x.device}, got {tensor.device}")
