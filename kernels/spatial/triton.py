"""Spatial attention in Triton: the maximum runs over one H x W plane.

A program owns a plane, or several where planes are small, and holds it in registers, 16 cells a
thread or, of the largest, 32: each tensor moves once. Planes too large for that are looped over:
the logits are read for their maximum and again, mostly out of the second-level cache, for the
result.
"""

import torch
import triton
import triton.language as tl
from lesionkit.kernels.common.triton import (
    check_launch,
    exp2_scale,
    fold_xy,
    inverse,
    maximum,
    on_device_of,
    program_xy,
    usable_maximum,
)
from torch import Tensor

CELLS_A_WARP = 512
MOST_WARPS = 32
MOST_WARPS_MIXED = 16  # tensors of different types change threads, which takes registers
LOOP_BLOCK = 4096


def tile_of(cells: int) -> dict[str, int]:
    """Planes and cells (a power of 2) of a program's tile, and its warps."""
    block = triton.next_power_of_2(cells)
    rows = max(1, CELLS_A_WARP // block)
    tile = {"ROWS": rows, "BLOCK": block, "num_warps": rows * block // CELLS_A_WARP}
    if tile["num_warps"] == MOST_WARPS:
        # Of so many threads each may have 64 registers, which some ptxas exceed: half as many.
        tile |= {"num_warps": MOST_WARPS // 2, "maxnreg": 128}
    return tile


@triton.jit
def forward_kernel(
    x, logits, y, planes, cells, scale, ROWS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    first = program_xy() * ROWS
    if first >= planes:
        return
    row = tl.arange(0, ROWS)[:, None]
    cell = tl.arange(0, BLOCK)[None, :]
    mask = (first + row < planes) & (cell < cells)
    start = first * cells
    offset = row * cells + cell
    # Past the end -inf never wins and never equals a usable maximum.
    c = tl.load(logits + start + offset, mask=mask, other=float("-inf")).to(tl.float32)
    x_value = tl.load(x + start + offset, mask=mask).to(tl.float32)
    top = usable_maximum(tl.reduce(c, 1, maximum))[:, None]
    value = x_value * tl.exp2((c - top) * scale)
    tl.store(y + start + offset, value.to(y.dtype.element_ty), mask=mask)


@triton.jit
def backward_kernel(
    grad, x, logits, dx, dlogits, planes, cells, scale, inverse_temperature,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    first = program_xy() * ROWS
    if first >= planes:
        return
    row = tl.arange(0, ROWS)[:, None]
    cell = tl.arange(0, BLOCK)[None, :]
    mask = (first + row < planes) & (cell < cells)
    start = first * cells
    offset = row * cells + cell
    c = tl.load(logits + start + offset, mask=mask, other=float("-inf")).to(tl.float32)
    g = tl.load(grad + start + offset, mask=mask, other=0.0).to(tl.float32)
    x_value = tl.load(x + start + offset, mask=mask, other=0.0).to(tl.float32)
    top = usable_maximum(tl.reduce(c, 1, maximum))[:, None]
    dx_value = g * tl.exp2((c - top) * scale)
    tl.store(dx + start + offset, dx_value.to(dx.dtype.element_ty), mask=mask)
    h = dx_value * x_value * inverse_temperature
    tied = c == top
    total = tl.sum(h, 1)[:, None]
    share = total / tl.sum(tl.where(tied, 1.0, 0.0), 1)[:, None]
    # Where the sum is not finite, no gradient of the plane is.
    value = h - tl.where(tied, share, total * 0.0)
    tl.store(dlogits + start + offset, value.to(dlogits.dtype.element_ty), mask=mask)


@triton.jit
def looped_forward_kernel(x, logits, y, planes, cells, tiles, scale, BLOCK: tl.constexpr):
    plane = program_xy()
    if plane >= planes:
        return
    start = plane * cells
    lane = tl.arange(0, BLOCK)
    tops = tl.full((BLOCK,), float("-inf"), tl.float32)
    for tile in range(tiles):
        cell = tl.cast(tile, tl.int64) * BLOCK
        mask = cell + lane < cells
        c = tl.load(logits + start + cell + lane, mask=mask, other=float("-inf"))
        tops = maximum(tops, c.to(tl.float32))
    top = usable_maximum(tl.reduce(tops, 0, maximum))
    for tile in range(tiles):
        cell = tl.cast(tile, tl.int64) * BLOCK
        mask = cell + lane < cells
        c = tl.load(logits + start + cell + lane, mask=mask).to(tl.float32)
        value = tl.load(x + start + cell + lane, mask=mask).to(tl.float32)
        value *= tl.exp2((c - top) * scale)
        tl.store(y + start + cell + lane, value.to(y.dtype.element_ty), mask=mask)


@triton.jit
def looped_backward_kernel(
    grad, x, logits, dx, dlogits, planes, cells, tiles, scale, inverse_temperature,
    BLOCK: tl.constexpr,
):  # fmt: skip
    plane = program_xy()
    if plane >= planes:
        return
    start = plane * cells
    lane = tl.arange(0, BLOCK)
    # Each lane's own maximum so far, and how often it occurred.
    tops = tl.full((BLOCK,), float("-inf"), tl.float32)
    counts = tl.zeros((BLOCK,), tl.float32)
    for tile in range(tiles):
        cell = tl.cast(tile, tl.int64) * BLOCK
        mask = cell + lane < cells
        c = tl.load(logits + start + cell + lane, mask=mask, other=float("-inf")).to(tl.float32)
        before = tops
        tops = maximum(tops, c)
        counts = tl.where(tops == before, counts, 0.0) + tl.where(c == tops, 1.0, 0.0)
    top = usable_maximum(tl.reduce(tops, 0, maximum))
    ties = tl.sum(tl.where(tops == top, counts, 0.0), 0)
    totals = tl.zeros((BLOCK,), tl.float32)
    for tile in range(tiles):
        cell = tl.cast(tile, tl.int64) * BLOCK
        mask = cell + lane < cells
        c = tl.load(logits + start + cell + lane, mask=mask, other=float("-inf")).to(tl.float32)
        dx_value = tl.load(grad + start + cell + lane, mask=mask, other=0.0).to(tl.float32)
        dx_value *= tl.exp2((c - top) * scale)
        x_value = tl.load(x + start + cell + lane, mask=mask, other=0.0).to(tl.float32)
        h = dx_value * x_value * inverse_temperature
        totals += h
        tl.store(dx + start + cell + lane, dx_value.to(dx.dtype.element_ty), mask=mask)
        tl.store(dlogits + start + cell + lane, h.to(dlogits.dtype.element_ty), mask=mask)
    total = tl.sum(totals, 0)
    share = total / ties
    elsewhere = total * 0.0
    # Only the tied maxima lack their share, and the whole plane if the sum is not finite. They are
    # computed again, since what was stored may be rounded to 16 bits.
    tl.debug_barrier()  # the two stores to a cell may come from different threads
    for tile in range(tiles):
        cell = tl.cast(tile, tl.int64) * BLOCK
        mask = cell + lane < cells
        c = tl.load(logits + start + cell + lane, mask=mask, other=float("-inf")).to(tl.float32)
        again = mask & (tl.where(c == top, 1.0, elsewhere) != 0.0)
        dx_value = tl.load(grad + start + cell + lane, mask=again, other=0.0).to(tl.float32)
        dx_value *= tl.exp2((c - top) * scale)
        x_value = tl.load(x + start + cell + lane, mask=again, other=0.0).to(tl.float32)
        h = dx_value * x_value * inverse_temperature
        value = h - tl.where(c == top, share, elsewhere)
        tl.store(dlogits + start + cell + lane, value.to(dlogits.dtype.element_ty), mask=again)


def launch_of(planes: int, cells: int, mixed: bool) -> tuple[bool, tuple[int, int], dict]:
    """Whether planes are looped over, the grid, and the numbers of the kernel for that.

    `mixed` tells that x and the logits have different types.
    """
    options = {"planes": planes, "cells": cells, "enable_fp_fusion": True}
    if cells > CELLS_A_WARP * (MOST_WARPS_MIXED if mixed else MOST_WARPS):
        tiles = triton.cdiv(cells, LOOP_BLOCK)
        options |= {"tiles": tiles, "BLOCK": LOOP_BLOCK, "num_warps": 8}
        return True, fold_xy(planes), options
    options |= tile_of(cells)
    return False, fold_xy(triton.cdiv(planes, options["ROWS"])), options


def forward(x: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """y [B, M, D, H, W] of contiguous x and logits."""
    check_launch(x, logits)
    y = torch.empty_like(x)
    if x.numel() == 0:
        return y
    samples, images, channels, height, width = x.shape
    mixed = x.dtype != logits.dtype
    looped, grid, options = launch_of(samples * images * channels, height * width, mixed)
    kernel = looped_forward_kernel if looped else forward_kernel
    with on_device_of(x):
        kernel[grid](x, logits, y, scale=exp2_scale(temperature), **options)
    return y


def backward(grad: Tensor, x: Tensor, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """dx and dlogits of contiguous arguments."""
    check_launch(x, grad, logits)
    dx, dlogits = torch.empty_like(x), torch.empty_like(logits)
    if x.numel() == 0:
        return dx, dlogits
    samples, images, channels, height, width = x.shape
    mixed = x.dtype != logits.dtype
    looped, grid, options = launch_of(samples * images * channels, height * width, mixed)
    options |= {"scale": exp2_scale(temperature), "inverse_temperature": inverse(temperature)}
    kernel = looped_backward_kernel if looped else backward_kernel
    with on_device_of(x):
        kernel[grid](grad, x, logits, dx, dlogits, **options)
    return dx, dlogits
