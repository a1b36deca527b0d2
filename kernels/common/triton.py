"""What the Triton kernels share: number rules, folding of grids, checks before a launch."""

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

# Hardware limits of a launch grid: x may have this many programs, y and z fewer.
MOST_X = 2**31 - 1
MOST_YZ = 65535

_NOTHING = nullcontext()


@triton.jit
def maximum(a, b):
    """The larger of both; NaN if either is."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def usable_maximum(top):
    """A finite maximum as it is; NaN for NaN and infinities, whose group has no weights."""
    return top + (top - top)


@triton.jit
def program_yz():
    """The program's number on an axis that `fold_yz` spread over y and z."""
    return tl.program_id(1) + tl.program_id(2).to(tl.int64) * tl.num_programs(1)


@triton.jit
def program_xy():
    """The program's number on an axis that `fold_xy` spread over x and y."""
    return tl.program_id(0) + tl.program_id(1).to(tl.int64) * tl.num_programs(0)


INTERPRETED = not isinstance(maximum, triton.JITFunction)


def fold_yz(count: int) -> tuple[int, int]:
    """Grid sizes in y and z with `count` programs or more; those past the end do nothing."""
    y = min(count, MOST_YZ)
    return y, triton.cdiv(count, y)


def fold_xy(count: int) -> tuple[int, int]:
    """Grid sizes in x and y with `count` programs or more; those past the end do nothing."""
    x = min(count, MOST_X)
    return x, triton.cdiv(count, x)


def exp2_scale(temperature: float) -> float:
    """log2(e) / T, kept a normal float32: at 0 a -inf logit would become NaN, at infinity all."""
    return min(max(1.4426950408889634074 / temperature, 2.0**-126), 2.0**127)


def inverse(temperature: float) -> float:
    """1 / T, kept a finite float32: 0 times infinity would make NaN of a gradient of 0."""
    return min(1 / temperature, 2.0**127)


def check_device(x: Tensor) -> None:
    """RuntimeError if Triton cannot launch on x's device."""
    if not x.is_cuda and not INTERPRETED:
        raise RuntimeError(
            f"Triton kernels run on CUDA tensors, got {x.device.type}; move the tensors to a GPU, "
            "choose another backend, or set TRITON_INTERPRET=1 before Triton is imported"
        )


def check_launch(x: Tensor, *others: Tensor) -> None:
    """`check_device`, and ValueError if a tensor is not of x's shape."""
    check_device(x)
    for other in others:
        if other.shape != x.shape:
            raise ValueError(
                f"tensors must have x's shape {tuple(x.shape)}, got {tuple(other.shape)}"
            )


def on_device_of(x: Tensor) -> AbstractContextManager:
    """Makes x's device the current one, where Triton launches; free if it is already."""
    if x.is_cuda and x.device.index != torch.cuda.current_device():
        return torch.cuda.device(x.device)
    return _NOTHING
