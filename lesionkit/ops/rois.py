"""The arguments of PSROI pooling, checked."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lesionkit.ops.checks import check_float_tensor, check_output_size, check_positive

CONVENTIONS = ("rfcn", "torchvision")


def checked_rois(
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
