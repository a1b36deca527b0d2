"""Position-sensitive RoI pooling (R-FCN: Dai et al. 2016, as used by 3DCE: Yan et al. 2018)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

CONVENTIONS = ("rfcn", "torchvision")
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def ps_roi_pool(
    features: Tensor,
    rois: Tensor | Sequence[Tensor],
    output_size: int = 7,
    spatial_scale: float = 1 / 8,
    convention: str = "rfcn",
) -> Tensor:
    """Average position-sensitive maps over the G x G bins of each region of interest.

    Output channel t of bin (i, j) is the mean of input channel (t*G + i)*G + j over the bin's
    cells. On the x axis a box covers, with round() half away from zero and before scaling,
    start = round(x1) * scale to end = (round(x2) + 1) * scale, at least 0.1 cells; bin j covers
    the cells floor(start + j * width/G) to ceil(start + (j + 1) * width/G), clipped to the map;
    y likewise. An empty bin gives 0. The gradient goes to the features only and is the same, bit
    for bit, in every run and for any number of threads.

    Args:
        features: [B, C*G*G, H, W] float64, float32, float16 or bfloat16, of any memory layout.
            Sums are taken in float32 (float64 for float64).
        rois: [K, 5] (sample index, x1, y1, x2, y2) in image pixels, or a list of B tensors
            [K_b, 4] (x1, y1, x2, y2). The bins are computed in float32, in float64 for float64
            rois, whatever the type of the features. A roi with a NaN or infinite number, a sample
            index outside 0..B-1, or coordinates that overflow when scaled, gives zeros.
        output_size: G, bins per side.
        spatial_scale: feature cells per image pixel.
        convention: "rfcn" as above (R-FCN, MXNet, 3DCE), or "torchvision": the forward of
            torchvision.ops.ps_roi_pool, which rounds after scaling, adds no pixel, makes boxes at
            least 1 cell wide and never pools the last row and column; the gradient is that of
            this forward.

    Returns:
        [K, C, G, G] in the type of features.

    Raises:
        TypeError, ValueError: an argument is of the wrong type, shape, device or value.
    """
    rois = _checked_rois(features, rois, output_size, spatial_scale, convention)
    return _pool_with_definition(features, rois, output_size, spatial_scale, convention)


def ps_roi_pool_reference(
    features: Tensor,
    rois: Tensor | Sequence[Tensor],
    output_size: int = 7,
    spatial_scale: float = 1 / 8,
    convention: str = "rfcn",
) -> Tensor:
    """`ps_roi_pool` written out from its definition, roi by roi and bin by bin, in plain torch.

    Same arguments, result and errors. Slow; it reads the rois on the host.
    """
    rois = _checked_rois(features, rois, output_size, spatial_scale, convention)
    return _pool_with_definition(features, rois, output_size, spatial_scale, convention)


def _pool_with_definition(
    features: Tensor, rois: Tensor, output_size: int, spatial_scale: float, convention: str
) -> Tensor:
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


def _checked_rois(
    features: Tensor,
    rois: Tensor | Sequence[Tensor],
    output_size: int,
    spatial_scale: float,
    convention: str,
) -> Tensor:
    """All arguments checked; the rois as one [K, 5] tensor, float32 or float64."""
    _check_tensor("features", features)
    if features.dim() != 4:
        raise ValueError(f"features must be [B, C*G*G, H, W], not {tuple(features.shape)}")
    if not isinstance(output_size, int) or isinstance(output_size, bool):
        raise TypeError(f"output_size must be an int, not {output_size!r}")
    if output_size < 1 or features.shape[1] % output_size**2:
        raise ValueError(
            f"output_size must be at least 1 and its square must divide the {features.shape[1]} "
            f"channels of features, not {output_size}"
        )
    if not isinstance(spatial_scale, int | float) or isinstance(spatial_scale, bool):
        raise TypeError(f"spatial_scale must be a float, not {spatial_scale!r}")
    if not (math.isfinite(spatial_scale) and spatial_scale > 0):
        raise ValueError(f"spatial_scale must be finite and above 0, not {spatial_scale}")
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {CONVENTIONS}, not {convention!r}")
    if not isinstance(rois, Tensor):
        rois = _rois_of_list(rois, features)
    _check_tensor("rois", rois)
    if rois.dim() != 2 or rois.shape[1] != 5:
        raise ValueError(f"rois must be [K, 5] or a list of [K_b, 4], not {tuple(rois.shape)}")
    if rois.device != features.device:
        raise ValueError(f"rois must be on {features.device} as features are, not {rois.device}")
    return rois.to(torch.promote_types(rois.dtype, torch.float32))


def _check_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, not {type(value).__name__}")
    if value.dtype not in _FLOATS:
        allowed = ", ".join(str(dtype) for dtype in _FLOATS)
        raise TypeError(f"{name} must be of type {allowed}, not {value.dtype}")


def _rois_of_list(boxes: Sequence[Tensor], features: Tensor) -> Tensor:
    """[K, 5] of one [K_b, 4] tensor per sample."""
    if not isinstance(boxes, list | tuple):
        raise TypeError(f"rois must be a tensor or a list of tensors, not {type(boxes).__name__}")
    if len(boxes) != features.shape[0]:
        raise ValueError(
            f"rois must have one tensor per sample, {features.shape[0]}, not {len(boxes)}"
        )
    rows = [features.new_zeros(0, 5, dtype=torch.float32)]
    for sample, of_sample in enumerate(boxes):
        _check_tensor(f"rois[{sample}]", of_sample)
        if of_sample.dim() != 2 or of_sample.shape[1] != 4:
            raise ValueError(f"rois[{sample}] must be [K_b, 4], not {tuple(of_sample.shape)}")
        if of_sample.device != features.device:
            raise ValueError(
                f"rois[{sample}] must be on {features.device} as features are, "
                f"not {of_sample.device}"
            )
        # Widened before the index joins: float16 and bfloat16 cannot hold every sample number.
        wide = of_sample.to(torch.promote_types(of_sample.dtype, torch.float32))
        rows.append(torch.nn.functional.pad(wide, (1, 0), value=sample))
    return torch.cat(rows)
