"""Position-sensitive RoI pooling (R-FCN: Dai et al. 2016, as used by 3DCE: Yan et al. 2018)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lesionkit.ops.arrays import call_with_cupy, is_cupy
from lesionkit.ops.backends import resolve
from lesionkit.ops.checks import check_float_tensor, check_output_size, check_positive
from lesionkit.ops.registration import register_op

CONVENTIONS = ("rfcn", "torchvision")


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
            Sums are taken in float32 (float64 for float64). CuPy arrays are taken too, and give a
            CuPy array.
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
        RuntimeError: the chosen backend cannot run on the device of features.
    """
    if is_cupy(features):
        options = output_size, spatial_scale, convention
        return call_with_cupy(ps_roi_pool, features, rois, *options)
    rois = _checked_rois(features, rois, output_size, spatial_scale, convention)
    backend = resolve(features)
    if backend == "reference":
        return _pool_with_definition(features, rois, output_size, spatial_scale, convention)
    return _calls[backend](features, rois, int(output_size), float(spatial_scale), convention)


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
    check_float_tensor("features", features)
    if features.dim() != 4:
        raise ValueError(f"features must be [B, C*G*G, H, W], got shape {tuple(features.shape)}")
    check_output_size(output_size)
    if features.shape[1] % int(output_size) ** 2:
        raise ValueError(
            f"the square of output_size must divide the {features.shape[1]} channels of features, "
            f"got {output_size}"
        )
    check_positive("spatial_scale", spatial_scale)
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}")
    if isinstance(rois, list | tuple):
        rois = _join_samples(rois, features)
    _check_boxes("rois", rois, 5, features)
    return rois.to(torch.promote_types(rois.dtype, torch.float32))


def _check_boxes(name: str, boxes: Tensor, columns: int, features: Tensor) -> None:
    check_float_tensor(name, boxes)
    if boxes.dim() != 2 or boxes.shape[1] != columns:
        raise ValueError(f"{name} must be [K, {columns}], got shape {tuple(boxes.shape)}")
    if boxes.device != features.device:
        raise ValueError(f"{name} must be on {features.device} as features, got {boxes.device}")


def _join_samples(boxes: Sequence[Tensor], features: Tensor) -> Tensor:
    """[K, 5] of one [K_b, 4] tensor per sample."""
    if len(boxes) != features.shape[0]:
        raise ValueError(
            f"rois must have one tensor per sample of features, {features.shape[0]}, "
            f"got {len(boxes)}"
        )
    rows = [features.new_empty(0, 5, dtype=torch.float32)]
    for sample, of_sample in enumerate(boxes):
        _check_boxes(f"rois[{sample}]", of_sample, 4, features)
        # Widened before the index joins: 16-bit floats cannot hold every sample number.
        wide = of_sample.to(torch.promote_types(of_sample.dtype, torch.float32))
        rows.append(torch.nn.functional.pad(wide, (1, 0), value=sample))
    return torch.cat(rows)


def _fake(features, rois, output_size, spatial_scale, convention):
    channels = features.shape[1] // output_size**2
    return features.new_empty(rois.shape[0], channels, output_size, output_size)


def _backward_fake(grad, rois, batch, height, width, spatial_scale, convention):
    _, channels, bins, _ = grad.shape
    return grad.new_empty(batch, channels * bins * bins, height, width)


def _setup_context(ctx, inputs, output):
    features, rois, _, ctx.spatial_scale, ctx.convention = inputs
    ctx.save_for_backward(rois)
    ctx.batch, _, ctx.height, ctx.width = features.shape


def _backward(ctx, grad, call_backward):
    (rois,) = ctx.saved_tensors
    geometry = ctx.batch, ctx.height, ctx.width, ctx.spatial_scale, ctx.convention
    return call_backward(grad, rois, *geometry), None, None, None, None


_calls = register_op(
    "ps_roi_pool",
    "psroi",
    fake=_fake,
    backward_fake=_backward_fake,
    setup_context=_setup_context,
    backward=_backward,
)
