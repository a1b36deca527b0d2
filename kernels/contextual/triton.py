"""Contextual attention in Triton: the maximum runs over the M images of a column.

D, H and W are one axis: its extent is a multiple of D, so that accesses are 128 bits wide whatever
the size of the images. A program owns a tile of columns and all M images of it. They are unrolled
into M one-dimensional tiles, one vector of each in every thread: columns never leave their thread,
there is no shared memory and no barrier, and each tensor moves once.
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
from torch import Tensor

# The unrolled tiles of more images do not fit into registers; they are looped over, tile by tile,
# and read again out of the caches.
MOST_UNROLLED = 15
# Left to itself, ptxas spills a few registers for more programs at a time.
OPTIONS = {"num_warps": 4, "maxnreg": 255, "enable_fp_fusion": True}


def block_of(direction: str, x_bytes: int, logits_bytes: int, images: int) -> int:
    """Columns of a tile for types of these sizes: a 128-bit vector a thread, where it fits.

    Beside a float32 tensor a thread takes 64 bits of a 16-bit one, and so does the backward of
    more images than leave room for their products in float32.
    """
    many = direction == "backward" and 9 < images <= MOST_UNROLLED
    return 1024 if max(x_bytes, logits_bytes) == 2 and not many else 512


def grid_of(samples: int, columns: int, block: int) -> tuple[int, int, int]:
    """Tiles in x, samples over y and z."""
    return triton.cdiv(columns, block), *fold_yz(samples)


@triton.jit
def forward_kernel(
    x, logits, y, samples, columns, scale, M: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    sample = program_yz()
    if sample >= samples:
        return
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    mask = first + lane < columns
    c = ()
    for m in tl.static_range(M):
        row = (sample * M + m) * columns + first
        c += (tl.load(logits + row + lane, mask=mask),)
    top = c[0].to(tl.float32)
    for m in tl.static_range(1, M):
        top = maximum(top, c[m].to(tl.float32))
    top = usable_maximum(top)
    for m in tl.static_range(M):
        row = (sample * M + m) * columns + first
        weight = tl.exp2((c[m].to(tl.float32) - top) * scale)
        value = tl.load(x + row + lane, mask=mask).to(tl.float32) * weight
        tl.store(y + row + lane, value.to(y.dtype.element_ty), mask=mask)


@triton.jit
def backward_kernel(
    grad, x, logits, dx, dlogits, samples, columns, scale, inverse_temperature,
    M: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    sample = program_yz()
    if sample >= samples:
        return
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    mask = first + lane < columns
    c = ()
    for m in tl.static_range(M):
        row = (sample * M + m) * columns + first
        c += (tl.load(logits + row + lane, mask=mask),)
    top = c[0].to(tl.float32)
    for m in tl.static_range(1, M):
        top = maximum(top, c[m].to(tl.float32))
    top = usable_maximum(top)
    ties = tl.zeros((BLOCK,), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    h = ()
    for m in tl.static_range(M):
        row = (sample * M + m) * columns + first
        weight = tl.exp2((c[m].to(tl.float32) - top) * scale)
        dx_value = tl.load(grad + row + lane, mask=mask).to(tl.float32) * weight
        tl.store(dx + row + lane, dx_value.to(dx.dtype.element_ty), mask=mask)
        product = dx_value * tl.load(x + row + lane, mask=mask).to(tl.float32)
        h += (product * inverse_temperature,)
        total += h[m]
        ties += tl.where(c[m].to(tl.float32) == top, 1.0, 0.0)
    share = total / ties
    elsewhere = total * 0.0  # NaN where the sum is not finite: then no gradient of the column is
    for m in tl.static_range(M):
        row = (sample * M + m) * columns + first
        value = h[m] - tl.where(c[m].to(tl.float32) == top, share, elsewhere)
        tl.store(dlogits + row + lane, value.to(dlogits.dtype.element_ty), mask=mask)


@triton.jit
def looped_forward_kernel(x, logits, y, samples, M, columns, scale, BLOCK: tl.constexpr):
    sample = program_yz()
    if sample >= samples:
        return
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    mask = first + lane < columns
    top = tl.full((BLOCK,), float("-inf"), tl.float32)
    for m in range(M):
        row = (sample * M + m) * columns + first
        top = maximum(top, tl.load(logits + row + lane, mask=mask).to(tl.float32))
    top = usable_maximum(top)
    for m in range(M):
        row = (sample * M + m) * columns + first
        c = tl.load(logits + row + lane, mask=mask).to(tl.float32)
        value = tl.load(x + row + lane, mask=mask).to(tl.float32) * tl.exp2((c - top) * scale)
        tl.store(y + row + lane, value.to(y.dtype.element_ty), mask=mask)


@triton.jit
def looped_backward_kernel(
    grad, x, logits, dx, dlogits, samples, M, columns, scale, inverse_temperature,
    BLOCK: tl.constexpr,
):  # fmt: skip
    sample = program_yz()
    if sample >= samples:
        return
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    mask = first + lane < columns
    top = tl.full((BLOCK,), float("-inf"), tl.float32)
    for m in range(M):
        row = (sample * M + m) * columns + first
        top = maximum(top, tl.load(logits + row + lane, mask=mask).to(tl.float32))
    top = usable_maximum(top)
    ties = tl.zeros((BLOCK,), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for m in range(M):
        row = (sample * M + m) * columns + first
        c = tl.load(logits + row + lane, mask=mask).to(tl.float32)
        dx_value = tl.load(grad + row + lane, mask=mask).to(tl.float32)
        dx_value *= tl.exp2((c - top) * scale)
        tl.store(dx + row + lane, dx_value.to(dx.dtype.element_ty), mask=mask)
        product = dx_value * tl.load(x + row + lane, mask=mask).to(tl.float32)
        total += product * inverse_temperature
        ties += tl.where(c == top, 1.0, 0.0)
    share = total / ties
    elsewhere = total * 0.0
    for m in range(M):
        row = (sample * M + m) * columns + first
        c = tl.load(logits + row + lane, mask=mask).to(tl.float32)
        dx_value = tl.load(grad + row + lane, mask=mask).to(tl.float32)
        dx_value *= tl.exp2((c - top) * scale)
        product = dx_value * tl.load(x + row + lane, mask=mask).to(tl.float32)
        value = product * inverse_temperature - tl.where(c == top, share, elsewhere)
        tl.store(dlogits + row + lane, value.to(dlogits.dtype.element_ty), mask=mask)


def forward(x: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """y [B, M, D, H, W] of contiguous x and logits."""
    check_launch(x, logits)
    y = torch.empty_like(x)
    if x.numel() == 0:
        return y
    samples, images, channels, height, width = x.shape
    columns = channels * height * width
    block = block_of("forward", x.element_size(), logits.element_size(), images)
    kernel = forward_kernel if images <= MOST_UNROLLED else looped_forward_kernel
    sizes = {"samples": samples, "M": images, "columns": columns, "BLOCK": block}
    with on_device_of(x):
        kernel[grid_of(samples, columns, block)](
            x, logits, y, scale=exp2_scale(temperature), **sizes, **OPTIONS
        )
    return y


def backward(grad: Tensor, x: Tensor, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """dx and dlogits of contiguous arguments."""
    check_launch(x, grad, logits)
    dx, dlogits = torch.empty_like(x), torch.empty_like(logits)
    if x.numel() == 0:
        return dx, dlogits
    samples, images, channels, height, width = x.shape
    columns = channels * height * width
    block = block_of("backward", x.element_size(), logits.element_size(), images)
    kernel = backward_kernel if images <= MOST_UNROLLED else looped_backward_kernel
    sizes = {"samples": samples, "M": images, "columns": columns, "BLOCK": block}
    numbers = {
        "scale": exp2_scale(temperature),
        "inverse_temperature": inverse(temperature),
    }
    with on_device_of(x):
        kernel[grid_of(samples, columns, block)](
            grad, x, logits, dx, dlogits, **numbers, **sizes, **OPTIONS
        )
    return dx, dlogits
