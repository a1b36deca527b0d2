"""Position-sensitive RoI pooling in Triton, forward and backward.

The bins are those of bins.h, restated: each operation rounds once, so both kernels are compiled
without fused multiply-adds.

Forward: a program pools one roi from a block of channels, a thread a bin; the roi's edges are
computed once for all. Programs of neighbouring rois and the same channels run together, so that
maps are read from memory once and rois that overlap find them in the caches. Staging whole maps on
chip would read all of a map, where 300 rois touch about half of it, and Triton cannot gather from
what it staged.

Backward: a program owns a stretch of cells of the maps of several output channels, which share the
bin and so its edges. It searches the rois for those that reach its cells, 64 at a time, and adds
them up in registers in the order of the rois. No other program touches the cells, they are written
once, and the result does not depend on the run.
"""

import torch
import triton
import triton.language as tl
from lesionkit.kernels.common.triton import MOST_X, check_device, fold_yz, on_device_of, program_yz
from torch import Tensor

CONVENTIONS = ("rfcn", "torchvision")
FORWARD_BLOCK = 256  # bins of a program
ROI_BLOCK = 64
# The backward's tile: one warp, 32 sums a thread. Few cells, so that few rois reach them.
TILE = 1024
TILE_CHANNELS = 8


# Left to itself, ptxas spills a register or two for more programs at a time.
FORWARD_OPTIONS = {"num_warps": 4, "maxnreg": 64, "enable_fp_fusion": False}
BACKWARD_OPTIONS = {"num_warps": 1, "enable_fp_fusion": False}


@triton.jit
def round_half_away(value):
    whole = tl.where(value < 0, tl.ceil(value), tl.floor(value))
    away = tl.where(value < 0, whole - 1, whole + 1)
    return tl.where(tl.abs(value - whole) >= 0.5, away, whole)


@triton.jit
def divide(a, b):
    """a / b, correctly rounded."""
    return tl.div_rn(a, b) if a.dtype == tl.float32 else a / b


@triton.jit
def clamp_to_int(value, highest):
    """Compared before the cast: huge values do not fit an int. NaN gives 0."""
    value = tl.where(value > 0, value, 0.0)
    return tl.where(value < highest, value, highest).to(tl.int32)


@triton.jit
def span_of(first, last, SCALE: tl.constexpr, BINS: tl.constexpr, RFCN: tl.constexpr):
    """Start and bin size on one axis of a roi, and whether they and all on the way are finite."""
    scale = tl.full((), SCALE, first.dtype)
    if RFCN:
        start = round_half_away(first) * scale
        end = (round_half_away(last) + 1) * scale
        least = tl.full((), 0.1, first.dtype)
    else:
        start = round_half_away(first * scale)
        end = round_half_away(last * scale)
        least = tl.full((), 1.0, first.dtype)
    width = end - start
    width = tl.where(width < least, least, width)
    usable = (start - start == 0) & (end - end == 0) & (width - width == 0)
    return start, divide(width, tl.full((), BINS, first.dtype)), usable


@triton.jit
def cells_of(start, bin_size, index, size, RFCN: tl.constexpr):
    """First and one past the last cell of bin `index` on an axis of `size` cells."""
    low = index.to(start.dtype) * bin_size
    high = (index + 1).to(start.dtype) * bin_size
    if RFCN:
        low = tl.floor(low + start)
        high = tl.ceil(high + start)
        limit = size
    else:  # torchvision never pools the last row and column
        low = tl.floor(low) + start
        high = tl.ceil(high) + start
        limit = tl.maximum(size - 1, 0)
    highest = tl.cast(limit, start.dtype)
    return clamp_to_int(low, highest), clamp_to_int(high, highest)


@triton.jit
def forward_kernel(
    features, rois, pooled, batch, channels, height, width,
    SCALE: tl.constexpr, BINS: tl.constexpr, RFCN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    roi = tl.program_id(0).to(tl.int64)
    first_channel = program_yz() * BLOCK
    lane = tl.arange(0, BLOCK)
    channel = first_channel + lane
    inside = channel < channels
    place = (first_channel % (BINS * BINS)).to(tl.int32) + lane
    index = tl.load(rois + roi * 5)
    start_x, bin_x, usable_x = span_of(
        tl.load(rois + roi * 5 + 1), tl.load(rois + roi * 5 + 3), SCALE, BINS, RFCN
    )
    start_y, bin_y, usable_y = span_of(
        tl.load(rois + roi * 5 + 2), tl.load(rois + roi * 5 + 4), SCALE, BINS, RFCN
    )
    usable = (index >= 0) & (index < tl.cast(batch, index.dtype)) & usable_x & usable_y
    sample = tl.where(usable, index, 0.0).to(tl.int64)
    # On a map without cells all bins are empty.
    left, right = cells_of(start_x, bin_x, place % BINS, tl.where(usable, width, 0), RFCN)
    top, bottom = cells_of(start_y, bin_y, place // BINS % BINS, tl.where(usable, height, 0), RFCN)
    rows = tl.where(inside, bottom - top, 0)
    columns = right - left
    most_rows = tl.max(rows, 0)
    most_columns = tl.max(columns, 0)
    cell = (sample * channels + channel) * height + top
    cell = cell * width + left
    total = tl.zeros((BLOCK,), tl.float32)
    for row in range(most_rows):
        for column in range(0, most_columns, 2):
            for step in tl.static_range(2):
                mask = (row < rows) & (column + step < columns)
                value = tl.load(features + cell + column + step, mask=mask, other=0.0)
                total += value.to(tl.float32)
        cell += width
    covers = (rows > 0) & (columns > 0)
    area = tl.where(covers, rows.to(tl.float32) * columns.to(tl.float32), 1.0)
    mean = tl.where(covers, divide(total, area), 0.0)
    target = pooled + roi * channels + channel
    tl.store(target, mean.to(pooled.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(
    grad, rois, grad_features, count, batch, channels, height, width, cells, tiles,
    SCALE: tl.constexpr, BINS: tl.constexpr, RFCN: tl.constexpr,
    CHANNELS: tl.constexpr, CELLS: tl.constexpr, ROIS: tl.constexpr,
):  # fmt: skip
    sample = program_yz()
    if sample >= batch:
        return
    tile = tl.program_id(0) % tiles
    place = tl.program_id(0) // tiles % (BINS * BINS)
    group = tl.program_id(0) // tiles // (BINS * BINS)
    first_cell = tile.to(tl.int64) * CELLS
    lane = tl.arange(0, CELLS)[None, :]
    first_row = (first_cell // width).to(tl.int32)
    first_column = (first_cell % width).to(tl.int32)
    last_row = first_row + (first_column + CELLS - 1) // width
    row_of_cell = first_row + (first_column + lane) // width
    column_of_cell = (first_column + lane) % width
    # Output channels t of this bin: (t * BINS + i) * BINS + j.
    first_channel = group.to(tl.int64) * (CHANNELS * BINS * BINS) + place
    step = tl.arange(0, CHANNELS)[:, None].to(tl.int64) * (BINS * BINS)
    inside = step < channels - first_channel
    total = tl.zeros((CHANNELS, CELLS), tl.float32)
    for first_roi in range(0, count, ROIS):
        roi = first_roi + tl.arange(0, ROIS)
        there = roi < count
        row = rois + roi.to(tl.int64) * 5
        index = tl.load(row, mask=there, other=-1.0)
        start_x, bin_x, usable_x = span_of(
            tl.load(row + 1, mask=there, other=0.0), tl.load(row + 3, mask=there, other=0.0),
            SCALE, BINS, RFCN,
        )  # fmt: skip
        start_y, bin_y, usable_y = span_of(
            tl.load(row + 2, mask=there, other=0.0), tl.load(row + 4, mask=there, other=0.0),
            SCALE, BINS, RFCN,
        )  # fmt: skip
        left, right = cells_of(start_x, bin_x, place % BINS, width, RFCN)
        top, bottom = cells_of(start_y, bin_y, place // BINS, height, RFCN)
        usable = (index >= 0) & (index < tl.cast(batch, index.dtype)) & usable_x & usable_y
        usable = usable & (tl.where(usable, index, 0.0).to(tl.int64) == sample)
        hit = usable & (left < right) & (top < bottom) & (top <= last_row) & (bottom > first_row)
        waiting = tl.where(hit, roi, count)
        for _ in range(tl.sum(hit.to(tl.int32), 0)):
            current = tl.min(waiting, 0)
            chosen = waiting == current
            waiting = tl.where(chosen, count, waiting)
            roi_left = tl.sum(tl.where(chosen, left, 0), 0)
            roi_right = tl.sum(tl.where(chosen, right, 0), 0)
            roi_top = tl.sum(tl.where(chosen, top, 0), 0)
            roi_bottom = tl.sum(tl.where(chosen, bottom, 0), 0)
            value = tl.load(
                grad + (current.to(tl.int64) * channels + first_channel) + step,
                mask=inside,
                other=0.0,
            ).to(tl.float32)
            area = (roi_right - roi_left).to(tl.float32) * (roi_bottom - roi_top).to(tl.float32)
            pooled = (column_of_cell >= roi_left) & (column_of_cell < roi_right)
            pooled &= (row_of_cell >= roi_top) & (row_of_cell < roi_bottom)
            value *= 1.0 / area
            total += tl.where(pooled, value, 0.0)
    target = grad_features + (sample * channels + first_channel) * cells + first_cell
    target += step * cells + lane
    mask = inside & (first_cell + lane < cells)
    tl.store(target, total.to(grad_features.dtype.element_ty), mask=mask)


def forward_grid(rois: int, channels: int) -> tuple[int, int, int]:
    """Rois in x, blocks of channels over y and z."""
    return rois, *fold_yz(triton.cdiv(channels, FORWARD_BLOCK))


def backward_tile(channels: int, cells: int) -> tuple[int, int]:
    """Output channels and cells of a program."""
    tile_channels = min(triton.next_power_of_2(channels), TILE_CHANNELS)
    return tile_channels, min(triton.next_power_of_2(cells), TILE // tile_channels)


def check_arguments(rois: Tensor, channels: int, bins: int, convention: str) -> None:
    """What the kernels rely on, for calls that did not come through `lesionkit.ps_roi_pool`."""
    if rois.dim() != 2 or rois.shape[1] != 5 or rois.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"rois must be [K, 5] of float32 or float64, got {tuple(rois.shape)} of {rois.dtype}"
        )
    if bins < 1 or channels % bins**2:
        raise ValueError(
            f"output_size must be at least 1 and divide {channels} channels by its "
            f"square, got {bins}"
        )
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}")
    most_rois = MOST_X - ROI_BLOCK  # the search steps past the last in 32 bits
    if channels > MOST_X or len(rois) > most_rois:
        raise ValueError(
            f"channels must be at most {MOST_X} and rois {most_rois}, "
            f"got {channels} and {len(rois)}"
        )


def forward(
    features: Tensor, rois: Tensor, output_size: int, spatial_scale: float, convention: str
) -> Tensor:
    """Pooled [K, C, G, G] of contiguous features [B, C*G*G, H, W] and rois [K, 5]."""
    check_device(features)
    batch, channels, height, width = features.shape
    check_arguments(rois, channels, output_size, convention)
    outputs = channels // output_size**2
    pooled = features.new_empty(len(rois), outputs, output_size, output_size)
    if pooled.numel() == 0:
        return pooled
    if features.numel() == 0:
        return pooled.zero_()
    with on_device_of(features):
        forward_kernel[forward_grid(len(rois), channels)](
            features, rois, pooled, batch, channels, height, width,
            SCALE=spatial_scale, BINS=output_size, RFCN=convention == "rfcn", BLOCK=FORWARD_BLOCK,
            **FORWARD_OPTIONS,
        )  # fmt: skip
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
    """The gradient [batch, C*G*G, height, width] of contiguous grad [K, C, G, G] and rois."""
    check_device(grad)
    _, outputs, bins, _ = grad.shape
    channels, cells = outputs * bins**2, height * width
    check_arguments(rois, channels, bins, convention)
    if grad.shape != (len(rois), outputs, bins, bins):
        raise ValueError(f"grad must be [{len(rois)}, C, G, G], got {tuple(grad.shape)}")
    grad_features = grad.new_empty(batch, channels, height, width)
    if grad_features.numel() == 0:
        return grad_features
    if len(rois) == 0:
        return grad_features.zero_()
    tile_channels, tile_cells = backward_tile(outputs, cells)
    tiles = triton.cdiv(cells, tile_cells)
    programs = tiles * bins**2 * triton.cdiv(outputs, tile_channels)
    with on_device_of(grad):
        backward_kernel[programs, *fold_yz(batch)](
            grad, rois, grad_features, len(rois), batch, channels, height, width, cells, tiles,
            SCALE=spatial_scale, BINS=bins, RFCN=convention == "rfcn",
            CHANNELS=tile_channels, CELLS=tile_cells, ROIS=ROI_BLOCK,
            **BACKWARD_OPTIONS,
        )  # fmt: skip
    return grad_features
