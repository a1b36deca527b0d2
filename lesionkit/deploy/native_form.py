"""The ops in plain torch that ONNX has operators for, without a loop or a shape from the data.

For export only: the ops themselves are faster, and these take finite numbers for granted.
"""

import torch
from torch import Tensor


def contextual_attention(x: Tensor, logits: Tensor, temperature: float) -> Tensor:
    return _weighted(x, _weights(logits, (1,), temperature))


def spatial_attention(x: Tensor, logits: Tensor, temperature: float) -> Tensor:
    return _weighted(x, _weights(logits, (3, 4), temperature))


def dual_attention(
    x: Tensor,
    contextual_logits: Tensor,
    spatial_logits: Tensor,
    contextual_temperature: float,
    spatial_temperature: float,
) -> Tensor:
    contextual = _weights(contextual_logits, (1,), contextual_temperature)
    return _weighted(x, contextual * _weights(spatial_logits, (3, 4), spatial_temperature))


def _weights(logits: Tensor, axes: tuple[int, ...], temperature: float) -> Tensor:
    logits = logits.float()
    return ((logits - logits.amax(axes, keepdim=True)) / temperature).exp()


def _weighted(x: Tensor, weights: Tensor) -> Tensor:
    return (x.float() * weights).to(x.dtype)


def ps_roi_pool(
    features: Tensor, rois: Tensor, output_size: int, spatial_scale: float, convention: str
) -> Tensor:
    """``lesionkit.ps_roi_pool`` of as many rois [B * N, 5] for each sample, in the samples' order.

    A bin is a rectangle of cells, so its mean is a mean over columns of means over rows: a product
    with one mask for x, then with one for y. A roi that names another sample than the one in whose
    place it stands gives zeros.
    """
    batch, _, height, width = features.shape
    groups = output_size
    rois = rois.unflatten(0, (batch, -1))
    sample = torch.arange(batch, device=rois.device, dtype=rois.dtype)[:, None]
    columns, usable_x = _shares(rois[..., 1::2], width, groups, spatial_scale, convention)
    rows, usable_y = _shares(rois[..., 2::2], height, groups, spatial_scale, convention)
    named = (rois[..., 0] >= sample) & (rois[..., 0] < sample + 1)
    usable = usable_x & usable_y & named
    columns = torch.where(usable[..., None, None], columns, 0.0).to(features.dtype)

    maps = features.unflatten(1, (-1, groups, groups))  # [B, C, i, j, H, W]
    by_column = maps.permute(0, 3, 5, 2, 4, 1).reshape(batch, groups, width, -1)  # [.., (i, H, C)]
    means = columns.transpose(1, 2) @ by_column  # [B, j, N, (i, H, C)]
    means = means.unflatten(3, (groups, height, -1))
    pooled = rows.to(features.dtype)[:, None, :, :, None] @ means  # [B, j, N, i, 1, C]
    return pooled.squeeze(4).permute(0, 2, 4, 3, 1).flatten(0, 1)


def _shares(
    ends: Tensor, size: int, groups: int, spatial_scale: float, convention: str
) -> tuple[Tensor, Tensor]:
    """What each of ``size`` cells counts in the bins of one axis, and where numbers are finite.

    ``ends`` [B, N, 2] are first and last coordinates; gives [B, N, G, size], each bin's sum 1 or,
    for an empty one, 0, and [B, N]. One rounding per operation, as in kernels/psroi/bins.h.
    """
    first, last = ends[..., :1], ends[..., 1:]
    index = torch.arange(groups, device=ends.device, dtype=ends.dtype)
    if convention == "rfcn":
        start = _round_half_away(first) * spatial_scale
        end = (_round_half_away(last) + 1) * spatial_scale
        bins = (end - start).clamp(min=0.1) / groups
        low = (index * bins + start).floor()
        high = ((index + 1) * bins + start).ceil()
        limit = size
    else:
        start = _round_half_away(first * spatial_scale)
        end = _round_half_away(last * spatial_scale)
        bins = (end - start).clamp(min=1) / groups
        low = (index * bins).floor() + start
        high = ((index + 1) * bins).ceil() + start
        limit = size - 1
    usable = _is_finite(start) & _is_finite(end) & _is_finite(bins)
    low, high = (torch.where(usable, edge, 0.0).clamp(0, limit) for edge in (low, high))
    cell = torch.arange(size, device=ends.device, dtype=ends.dtype)
    covered = (cell >= low[..., None]) & (cell < high[..., None])
    share = 1 / (high - low).clamp(min=1)
    return torch.where(covered, share[..., None], 0.0), usable[..., 0]


def _is_finite(value: Tensor) -> Tensor:
    return value.abs() <= torch.finfo(value.dtype).max


def _round_half_away(value: Tensor) -> Tensor:
    """C's round(); ONNX rounds halves to even, and floor(x + 0.5) lifts 0.49999997 to 1."""
    whole = value.abs().floor()
    whole = whole + (value.abs() - whole >= 0.5).to(value.dtype)
    return torch.where(value < 0, -whole, whole)
