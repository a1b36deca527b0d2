"""Dual attention in Triton: both weights from the raw features' logits.

A program owns the M planes of one sample and channel: the only set of cells that holds whole planes
and whole columns. It first reads the spatial logits for the planes' maxima, then walks over tiles
of columns with their M images unrolled. Small planes stay in registers in between, so that each
tensor moves once. Larger ones do not fit: M planes of 64 x 64 cells are up to 147 KB of each
tensor, and the register file is 256 KB. Their spatial logits are read again, which costs no memory
traffic as long as the second-level cache still has them: it is told to keep them, and to let go of
what is read once. A separate kernel for the maxima would always read them twice from memory.
"""

import torch
import triton
import triton.language as tl
from lesionkit.kernels.common.triton import (
    check_launch,
    exp2_scale,
    fold_yz,
    inverse,
    maximum,
    on_device_of,
    program_yz,
    usable_maximum,
)
from lesionkit.kernels.contextual import triton as contextual_triton
from lesionkit.kernels.spatial import triton as spatial_triton
from torch import Tensor

# More images do not fit into registers: contextual attention, then spatial attention on its result.
MOST_UNROLLED = 9
REGISTERS = 65536  # of a multiprocessor


def tile_of(
    direction: str,
    images: int,
    cells: int,
    x_bytes: int,
    logits_bytes: int,
    aligned: bool = True,
) -> tuple[bool, dict[str, int]]:
    """Whether planes are looped over, and the tile and warps of a program.

    `vector` elements of a tensor are one thread's: 128 bits, or 64 bits of a 16-bit tensor beside a
    float32 one and where registers are short. `aligned` tells that all tensors begin at a multiple
    of 16 bytes.
    """
    vector = 8 if max(x_bytes, logits_bytes) == 2 else 4
    block = triton.next_power_of_2(cells)
    warps = max(1, block // (32 * vector))
    # What the compiler takes, of a thread: fitted to the committed table of the tests.
    each, base = (2 * vector, 24) if direction == "forward" else (3 * vector + 1, 40)
    if 2 * 32 * warps * (each * images + base) <= REGISTERS:
        return False, {"BLOCK": block, "num_warps": warps, "maxnreg": most_registers(warps)}
    whole = aligned and cells % 16 == 0
    if not whole:
        # Numbers move one by one, each with an address and a predicate.
        vector = 1 if direction == "backward" and images > 5 else 2
    elif direction == "backward" and images > 5:
        vector = 4
    # The larger a program's spatial logits are, the fewer programs may share a multiprocessor: the
    # logits of all that run at a time should fit half of the second-level cache.
    spatial_bytes = images * cells * logits_bytes
    warps = 8 if spatial_bytes > 2**16 else 4
    if direction == "forward" and whole and spatial_bytes > 2**15:
        warps *= 2
    tile = {"BLOCK": 32 * warps * vector, "PLANE_BLOCK": min(block, 512 * warps)}
    tile |= {"num_warps": warps, "maxnreg": most_registers(warps)}
    if direction == "backward":
        tile["VECTOR"] = vector
    elif warps == 4 and whole and images * vector <= 24:
        tile["maxnreg"] = REGISTERS // (8 * 32 * warps)  # 8 programs at a time
    tile["tiles"] = triton.cdiv(cells, tile["BLOCK"])
    tile["plane_tiles"] = triton.cdiv(cells, tile["PLANE_BLOCK"])
    return True, tile


def most_registers(warps: int) -> int:
    """Of a thread. Left to itself, ptxas spills a few for more programs at a time."""
    return min(255, REGISTERS // (32 * warps))


def grid_of(samples: int, channels: int) -> tuple[int, int, int]:
    """Channels in x, samples over y and z."""
    return channels, *fold_yz(samples)


@triton.jit
def start_of(sample, image, channel, images, channels, cells):
    """Where a plane begins."""
    return ((sample * images + image) * channels + channel) * cells


@triton.jit
def opaque(tile, channels):
    """`tile`, in a way that the compiler does not see through.

    It would let every address of the M images of 7 tensors advance by itself, in two registers
    each. Computed from the tile's number anew, they share one.
    """
    return tl.cast(tile, tl.int64) ^ (channels >> 31)  # no channel number is negative


@triton.jit
def forward_kernel(
    x, contextual, spatial, y, samples, channels, cells, contextual_scale, spatial_scale,
    M: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    sample = program_yz()
    if sample >= samples:
        return
    channel = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    mask = lane < cells
    s = ()
    c = ()
    for m in tl.static_range(M):
        start = start_of(sample, m, channel, M, channels, cells)
        # Past the end -inf never wins and never equals a usable maximum.
        s += (tl.load(spatial + start + lane, mask=mask, other=float("-inf")),)
        c += (tl.load(contextual + start + lane, mask=mask),)
    top = c[0].to(tl.float32)
    for m in tl.static_range(1, M):
        top = maximum(top, c[m].to(tl.float32))
    top = usable_maximum(top)
    for m in tl.static_range(M):
        start = start_of(sample, m, channel, M, channels, cells)
        plane_top = usable_maximum(tl.reduce(s[m].to(tl.float32), 0, maximum))
        exponent = (c[m].to(tl.float32) - top) * contextual_scale
        exponent += (s[m].to(tl.float32) - plane_top) * spatial_scale
        value = tl.load(x + start + lane, mask=mask).to(tl.float32) * tl.exp2(exponent)
        tl.store(y + start + lane, value.to(y.dtype.element_ty), mask=mask)


@triton.jit
def backward_kernel(
    grad, x, contextual, spatial, dx, dcontextual, dspatial, samples, channels, cells,
    contextual_scale, spatial_scale, contextual_inverse, spatial_inverse,
    M: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    sample = program_yz()
    if sample >= samples:
        return
    channel = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    mask = lane < cells
    s = ()
    c = ()
    for m in tl.static_range(M):
        start = start_of(sample, m, channel, M, channels, cells)
        s += (tl.load(spatial + start + lane, mask=mask, other=float("-inf")),)
        c += (tl.load(contextual + start + lane, mask=mask, other=0.0),)
    top = c[0].to(tl.float32)
    for m in tl.static_range(1, M):
        top = maximum(top, c[m].to(tl.float32))
    top = usable_maximum(top)
    ties = tl.zeros((BLOCK,), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    products = ()
    for m in tl.static_range(M):
        start = start_of(sample, m, channel, M, channels, cells)
        plane_top = usable_maximum(tl.reduce(s[m].to(tl.float32), 0, maximum))
        exponent = (c[m].to(tl.float32) - top) * contextual_scale
        exponent += (s[m].to(tl.float32) - plane_top) * spatial_scale
        dx_value = tl.load(grad + start + lane, mask=mask, other=0.0).to(tl.float32)
        dx_value *= tl.exp2(exponent)
        tl.store(dx + start + lane, dx_value.to(dx.dtype.element_ty), mask=mask)
        product = dx_value * tl.load(x + start + lane, mask=mask, other=0.0).to(tl.float32)
        products += (product,)
        total += product
        ties += tl.where(c[m].to(tl.float32) == top, 1.0, 0.0)
        tied = s[m].to(tl.float32) == plane_top
        plane_total = tl.sum(product, 0)
        share = plane_total / tl.sum(tl.where(tied, 1.0, 0.0), 0)
        # Where a sum is not finite, no gradient of the plane or column is.
        value = (product - tl.where(tied, share, plane_total * 0.0)) * spatial_inverse
        tl.store(dspatial + start + lane, value.to(dspatial.dtype.element_ty), mask=mask)
    share = total / ties
    elsewhere = total * 0.0
    for m in tl.static_range(M):
        start = start_of(sample, m, channel, M, channels, cells)
        value = products[m] - tl.where(c[m].to(tl.float32) == top, share, elsewhere)
        value = (value * contextual_inverse).to(dcontextual.dtype.element_ty)
        tl.store(dcontextual + start + lane, value, mask=mask)


@triton.jit
def looped_forward_kernel(
    x, contextual, spatial, y, samples, channels, cells, tiles, plane_tiles,
    contextual_scale, spatial_scale,
    M: tl.constexpr, BLOCK: tl.constexpr, PLANE_BLOCK: tl.constexpr,
):  # fmt: skip
    sample = program_yz()
    if sample >= samples:
        return
    channel = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    plane_lane = tl.arange(0, PLANE_BLOCK)
    plane_tops = ()
    for m in tl.static_range(M):
        start = start_of(sample, m, channel, M, channels, cells)
        tops = tl.full((PLANE_BLOCK,), float("-inf"), tl.float32)
        for tile in range(plane_tiles):
            cell = tl.cast(tile, tl.int64) * PLANE_BLOCK
            s = tl.load(
                spatial + start + cell + plane_lane, mask=cell + plane_lane < cells,
                other=float("-inf"), eviction_policy="evict_last",
            )  # fmt: skip
            tops = maximum(tops, s.to(tl.float32))
        plane_tops += (usable_maximum(tl.reduce(tops, 0, maximum)),)
    for tile in range(tiles):
        cell = opaque(tile, channels) * BLOCK
        mask = cell + lane < cells
        c = ()
        for m in tl.static_range(M):
            start = start_of(sample, m, channel, M, channels, cells) + cell
            c += (tl.load(contextual + start + lane, mask=mask, eviction_policy="evict_first"),)
        top = c[0].to(tl.float32)
        for m in tl.static_range(1, M):
            top = maximum(top, c[m].to(tl.float32))
        top = usable_maximum(top)
        for m in tl.static_range(M):
            start = start_of(sample, m, channel, M, channels, cells) + cell
            s = tl.load(spatial + start + lane, mask=mask, eviction_policy="evict_first")
            exponent = (c[m].to(tl.float32) - top) * contextual_scale
            exponent += (s.to(tl.float32) - plane_tops[m]) * spatial_scale
            value = tl.load(x + start + lane, mask=mask, eviction_policy="evict_first")
            value = value.to(tl.float32) * tl.exp2(exponent)
            tl.store(y + start + lane, value.to(y.dtype.element_ty), mask=mask)


@triton.jit
def looped_backward_kernel(
    grad, x, contextual, spatial, dx, dcontextual, dspatial,
    samples, channels, cells, tiles, plane_tiles,
    contextual_scale, spatial_scale, contextual_inverse, spatial_inverse,
    M: tl.constexpr, BLOCK: tl.constexpr, PLANE_BLOCK: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    sample = program_yz()
    if sample >= samples:
        return
    channel = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    plane_lane = tl.arange(0, PLANE_BLOCK)
    plane_tops = ()
    plane_ties = ()
    plane_totals = ()
    for m in tl.static_range(M):
        start = start_of(sample, m, channel, M, channels, cells)
        # Each lane's own maximum so far, and how often it occurred.
        tops = tl.full((PLANE_BLOCK,), float("-inf"), tl.float32)
        counts = tl.zeros((PLANE_BLOCK,), tl.float32)
        for tile in range(plane_tiles):
            cell = tl.cast(tile, tl.int64) * PLANE_BLOCK
            s = tl.load(
                spatial + start + cell + plane_lane, mask=cell + plane_lane < cells,
                other=float("-inf"), eviction_policy="evict_last",
            ).to(tl.float32)  # fmt: skip
            before = tops
            tops = maximum(tops, s)
            counts = tl.where(tops == before, counts, 0.0) + tl.where(s == tops, 1.0, 0.0)
        plane_tops += (usable_maximum(tl.reduce(tops, 0, maximum)),)
        plane_ties += (tl.sum(tl.where(tops == plane_tops[m], counts, 0.0), 0),)
        plane_totals += (tl.zeros((BLOCK // VECTOR,), tl.float32),)
    for tile in range(tiles):
        cell = opaque(tile, channels) * BLOCK
        mask = cell + lane < cells
        c = ()
        for m in tl.static_range(M):
            start = start_of(sample, m, channel, M, channels, cells) + cell
            c += (tl.load(contextual + start + lane, mask=mask, other=0.0),)
        top = c[0].to(tl.float32)
        for m in tl.static_range(1, M):
            top = maximum(top, c[m].to(tl.float32))
        top = usable_maximum(top)
        ties = tl.zeros((BLOCK,), tl.float32)
        total = tl.zeros((BLOCK,), tl.float32)
        products = ()
        for m in tl.static_range(M):
            start = start_of(sample, m, channel, M, channels, cells) + cell
            s = tl.load(
                spatial + start + lane, mask=mask, other=float("-inf"),
                eviction_policy="evict_last",
            )  # fmt: skip
            exponent = (c[m].to(tl.float32) - top) * contextual_scale
            exponent += (s.to(tl.float32) - plane_tops[m]) * spatial_scale
            dx_value = tl.load(
                grad + start + lane, mask=mask, other=0.0, eviction_policy="evict_first"
            ).to(tl.float32)
            dx_value *= tl.exp2(exponent)
            tl.store(dx + start + lane, dx_value.to(dx.dtype.element_ty), mask=mask)
            x_value = tl.load(x + start + lane, mask=mask, other=0.0, eviction_policy="evict_first")
            product = dx_value * x_value.to(tl.float32)
            products += (product,)
            total += product
            ties += tl.where(c[m].to(tl.float32) == top, 1.0, 0.0)
            value = (product * spatial_inverse).to(dspatial.dtype.element_ty)
            tl.store(dspatial + start + lane, value, mask=mask)
        sums = ()
        for m in tl.static_range(M):
            # Neighbours that belong to one thread are added up: fewer registers to carry along.
            pairs = tl.reshape(products[m], (BLOCK // VECTOR, VECTOR))
            sums += (plane_totals[m] + tl.sum(pairs, 1),)
        plane_totals = sums
        share = total / ties
        elsewhere = total * 0.0
        for m in tl.static_range(M):
            start = start_of(sample, m, channel, M, channels, cells) + cell
            value = products[m] - tl.where(c[m].to(tl.float32) == top, share, elsewhere)
            value = (value * contextual_inverse).to(dcontextual.dtype.element_ty)
            tl.store(dcontextual + start + lane, value, mask=mask)
    shares = ()
    elsewheres = ()
    for m in tl.static_range(M):
        plane_total = tl.sum(plane_totals[m], 0)
        shares += (plane_total / plane_ties[m],)
        elsewheres += (plane_total * 0.0,)
    # Only the tied maxima of a plane lack their share, and the whole plane if its sum is not
    # finite. They are computed again: what was stored may be rounded to 16 bits.
    tl.debug_barrier()  # the two stores to a cell may come from different threads
    for tile in range(tiles):
        cell = opaque(tile, channels) * BLOCK
        mask = cell + lane < cells
        s = ()
        again = ()
        for m in tl.static_range(M):
            start = start_of(sample, m, channel, M, channels, cells) + cell
            s += (tl.load(spatial + start + lane, mask=mask, other=float("-inf")),)
            tied = s[m].to(tl.float32) == plane_tops[m]
            again += (mask & (tl.where(tied, 1.0, elsewheres[m]) != 0.0),)
        any_again = again[0]
        for m in tl.static_range(1, M):
            any_again = any_again | again[m]
        c = ()
        for m in tl.static_range(M):
            start = start_of(sample, m, channel, M, channels, cells) + cell
            c += (tl.load(contextual + start + lane, mask=any_again, other=0.0),)
        top = c[0].to(tl.float32)
        for m in tl.static_range(1, M):
            top = maximum(top, c[m].to(tl.float32))
        top = usable_maximum(top)
        for m in tl.static_range(M):
            start = start_of(sample, m, channel, M, channels, cells) + cell
            exponent = (c[m].to(tl.float32) - top) * contextual_scale
            exponent += (s[m].to(tl.float32) - plane_tops[m]) * spatial_scale
            dx_value = tl.load(grad + start + lane, mask=again[m], other=0.0).to(tl.float32)
            dx_value *= tl.exp2(exponent)
            x_value = tl.load(x + start + lane, mask=again[m], other=0.0).to(tl.float32)
            tied = s[m].to(tl.float32) == plane_tops[m]
            value = dx_value * x_value - tl.where(tied, shares[m], elsewheres[m])
            value = (value * spatial_inverse).to(dspatial.dtype.element_ty)
            tl.store(dspatial + start + lane, value, mask=again[m])


def launch_of(
    direction: str, tensors: tuple[Tensor, ...], temperatures: tuple[float, float]
) -> tuple[bool, tuple[int, int, int], dict]:
    """Whether planes are looped over, the grid, and the numbers of the kernel for that.

    `tensors` are the kernel's inputs, the last three of them x and the logits.
    """
    x, *logits = tensors[-3:]
    samples, images, channels, height, width = x.shape
    sizes = x.element_size(), max(tensor.element_size() for tensor in logits)
    aligned = all(tensor.data_ptr() % 16 == 0 for tensor in tensors)
    looped, options = tile_of(direction, images, height * width, *sizes, aligned)
    options |= {"samples": samples, "channels": channels, "cells": height * width, "M": images}
    options["contextual_scale"], options["spatial_scale"] = map(exp2_scale, temperatures)
    if direction == "backward":
        options["contextual_inverse"], options["spatial_inverse"] = map(inverse, temperatures)
    return looped, grid_of(samples, channels), options | {"enable_fp_fusion": True}


def forward(
    x: Tensor,
    contextual: Tensor,
    spatial: Tensor,
    contextual_temperature: float,
    spatial_temperature: float,
) -> Tensor:
    """y [B, M, D, H, W] of contiguous x and logits."""
    check_launch(x, contextual, spatial)
    y = torch.empty_like(x)
    if x.numel() == 0:
        return y
    if x.shape[1] > MOST_UNROLLED:
        refined = contextual_triton.forward(x.float(), contextual, contextual_temperature)
        return spatial_triton.forward(refined, spatial, spatial_temperature).to(x.dtype)
    temperatures = (contextual_temperature, spatial_temperature)
    looped, grid, options = launch_of("forward", (x, contextual, spatial), temperatures)
    kernel = looped_forward_kernel if looped else forward_kernel
    with on_device_of(x):
        kernel[grid](x, contextual, spatial, y, **options)
    return y


def backward(
    grad: Tensor,
    x: Tensor,
    contextual: Tensor,
    spatial: Tensor,
    contextual_temperature: float,
    spatial_temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """dx and the gradients of both sets of logits, of contiguous arguments."""
    check_launch(x, grad, contextual, spatial)
    dx, dcontextual, dspatial = map(torch.empty_like, (x, contextual, spatial))
    if x.numel() == 0:
        return dx, dcontextual, dspatial
    if x.shape[1] > MOST_UNROLLED:
        wide = x.float()
        refined = contextual_triton.forward(wide, contextual, contextual_temperature)
        drefined, dspatial = spatial_triton.backward(
            grad.float(), refined, spatial, spatial_temperature
        )
        dx, dcontextual = contextual_triton.backward(
            drefined, wide, contextual, contextual_temperature
        )
        return dx.to(x.dtype), dcontextual, dspatial
    temperatures = (contextual_temperature, spatial_temperature)
    inputs = (grad, x, contextual, spatial)
    looped, grid, options = launch_of("backward", inputs, temperatures)
    kernel = looped_backward_kernel if looped else backward_kernel
    with on_device_of(x):
        kernel[grid](*inputs, dx, dcontextual, dspatial, **options)
    return dx, dcontextual, dspatial
