"""PSROI pooling roi by roi and bin by bin: the oracle, written from the definition alone."""

import torch
from torch import Tensor


def pool_by_definition(
    features: Tensor, rois: Tensor, output_size: int, spatial_scale: float, convention: str
) -> Tensor:
    """Checked arguments of ``ps_roi_pool``, rois [K, 5], to [K, C, G, G]; in plain torch."""
    batch, channels, height, width = features.shape
    count = output_size
    maps = features.reshape(batch, channels // count**2, count, count, height, width)
    accumulator = torch.promote_types(features.dtype, torch.float32)
    # CUDA divides by a scalar through its reciprocal, which rounds differently.
    rois = rois.detach().cpu()
    left, right, usable_x = _bin_edges(rois[:, 1::2], width, count, spatial_scale, convention)
    top, bottom, usable_y = _bin_edges(rois[:, 2::2], height, count, spatial_scale, convention)
    samples = rois[:, 0]
    usable = usable_x & usable_y & (samples >= 0) & (samples < batch)
    # A zero that is part of the graph, so that a result without any cell can be differentiated too.
    zero = features[:0].sum(dtype=accumulator).expand(channels // count**2)
    means = []
    for k, usable_roi in enumerate(usable.tolist()):
        for i in range(count):
            for j in range(count):
                if usable_roi and left[k, j] < right[k, j] and top[k, i] < bottom[k, i]:
                    sample_maps = maps[int(samples[k]), :, i, j]
                    cells = sample_maps[:, top[k, i] : bottom[k, i], left[k, j] : right[k, j]]
                    means.append(cells.mean((1, 2), dtype=accumulator))
                else:
                    means.append(zero)
    if not means:
        return zero.to(features.dtype).expand(0, count, count, -1).permute(0, 3, 1, 2)
    pooled = torch.stack(means).reshape(len(rois), count, count, -1).permute(0, 3, 1, 2)
    return pooled.to(features.dtype).contiguous()


def _bin_edges(
    ends: Tensor, size: int, count: int, spatial_scale: float, convention: str
) -> tuple[Tensor, Tensor, Tensor]:
    """First and one past the last cell [K, G] of the bins on one axis of `size` cells.

    `ends` [K, 2] are the box's first and last coordinate; the third result [K] tells where all
    numbers stayed finite. Computed in the type of `ends`, one rounding per operation.
    """
    first, last = ends[:, :1], ends[:, 1:]
    scale, bins = ends.new_tensor(spatial_scale), ends.new_tensor(count)
    index = torch.arange(count, dtype=ends.dtype)
    if convention == "rfcn":
        start = _round_half_away(first) * scale
        end = (_round_half_away(last) + 1) * scale
        width = (end - start).clamp(min=0.1)
        low = torch.floor(index * (width / bins) + start)
        high = torch.ceil((index + 1) * (width / bins) + start)
        limit = size
    else:
        start = _round_half_away(first * scale)
        end = _round_half_away(last * scale)
        width = (end - start).clamp(min=1)
        low = torch.floor(index * (width / bins)) + start
        high = torch.ceil((index + 1) * (width / bins)) + start
        limit = max(size - 1, 0)
    usable = start.isfinite() & end.isfinite() & width.isfinite()
    low, high = (torch.where(usable, edge, 0).clamp(0, limit).long() for edge in (low, high))
    return low, high, usable[:, 0]


def _round_half_away(value: Tensor) -> Tensor:
    """C's round(): torch.round takes halves to even, and floor(x + 0.5) lifts 0.49999997 to 1."""
    whole = value.trunc()
    return torch.where((value - whole).abs() >= 0.5, whole + value.sign(), whole)
