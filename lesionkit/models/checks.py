"""What a detector is given and what it computes, checked before it is taken for a result."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lesionkit.models.boxes import to_half_open


def check_images(
    images: object, images_per_sample: int, least: int, weight: Tensor
) -> Sequence[Tensor]:
    """The samples of ``images``, of the type and on the device of ``weight``."""
    if not isinstance(images, Tensor | list | tuple):
        raise TypeError(
            "images must be a tensor [B, M, 3, H, W] or a list of tensors [M, 3, h, w], "
            f"got {type(images).__name__}"
        )
    if isinstance(images, Tensor) and images.dim() != 5:
        raise ValueError(f"images must be [B, M, 3, H, W], got shape {tuple(images.shape)}")
    if len(images) == 0:
        raise ValueError("images must hold at least one sample")
    for b, sample in enumerate(images):
        if not isinstance(sample, Tensor):
            raise TypeError(f"images[{b}] must be a tensor, got {type(sample).__name__}")
        shape = tuple(sample.shape)
        if len(shape) != 4 or shape[:2] != (images_per_sample, 3) or min(shape[2:]) < least:
            raise ValueError(
                f"images[{b}] must be [{images_per_sample}, 3, h, w] with h and w >= {least}, "
                f"got shape {shape}"
            )
        if not sample.is_floating_point():
            raise ValueError(f"images[{b}] must be floating point, got {sample.dtype}")
        if sample.device != weight.device:
            raise ValueError(
                f"images[{b}] must be on {weight.device}, where the weights are, got "
                f"{sample.device}; use images.to({str(weight.device)!r})"
            )
        if sample.dtype != weight.dtype and not _is_autocast(sample):
            raise ValueError(
                f"images[{b}] must be {weight.dtype} as the weights are, got {sample.dtype}; use "
                f"images.to({weight.dtype}), or torch.autocast for half precision"
            )
    return images


def _is_autocast(sample: Tensor) -> bool:
    """Whether autocast takes care of the type; it leaves float64 alone."""
    return sample.dtype != torch.float64 and torch.is_autocast_enabled(sample.device.type)


@torch.compiler.disable
def check_pixels(images: Tensor | Sequence[Tensor]) -> None:
    for b, sample in enumerate(images):
        if not sample.isfinite().all():
            raise ValueError(
                f"images must be finite, but images[{b}] holds NaN or infinite pixels; mend the "
                "scan or its preprocessing"
            )


def check_computed(what: str, *values: Tensor) -> None:
    """Raise FloatingPointError unless all is finite; NaN scores would pass for no finding."""
    if not all(value.isfinite().all() for value in values):
        raise FloatingPointError(
            f"the detector's {what} are not finite though its images are: its weights are not "
            f"finite, or too large for {values[0].dtype}; load sound weights, or compute in float32"
        )


def check_scales(scales: Sequence[float] | Tensor | None, count: int) -> list[float]:
    if scales is None:
        return [1.0] * count
    try:
        scales = [float(s) for s in scales]
    except (TypeError, ValueError):
        raise TypeError(f"scales must be {count} numbers, got {scales!r}") from None
    if len(scales) != count or not all(math.isfinite(s) and s > 0 for s in scales):
        raise ValueError(f"scales must be {count} finite numbers > 0, got {scales}")
    return scales


@torch.compiler.disable
def check_seeds(seeds: Sequence[int] | None, count: int) -> list[torch.Generator | None]:
    """The generator of each sample's random choices, None for torch's global one."""
    if seeds is None:
        return [None] * count
    whole = all(isinstance(seed, int) and 0 <= seed < 1 << 63 for seed in seeds)
    if len(seeds) != count or not whole:
        raise ValueError(f"seeds must be {count} integers in 0..2^63 - 1, got {seeds!r}")
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@torch.compiler.disable
def check_targets(
    targets: Sequence[Mapping[str, Tensor]] | None, samples: Sequence[Tensor]
) -> list[Tensor]:
    """The true boxes of each sample, half-open float32."""
    if targets is None:
        raise ValueError(f"targets must hold one dict per sample ({len(samples)}), got None")
    if not isinstance(targets, list | tuple):
        raise TypeError(
            f"targets must be a list of one dict per sample, got {type(targets).__name__}"
        )
    if len(targets) != len(samples):
        raise ValueError(
            f"targets must hold one dict per sample ({len(samples)}), got {len(targets)}"
        )
    truth = []
    for b, (target, sample) in enumerate(zip(targets, samples, strict=True)):
        if not isinstance(target, Mapping):
            raise TypeError(f"targets[{b}] must be a dict, got {type(target).__name__}")
        if "boxes" not in target:
            raise ValueError(f"targets[{b}] must have 'boxes', got {sorted(map(str, target))}")
        boxes = target["boxes"]
        if not isinstance(boxes, Tensor):
            raise TypeError(f"targets[{b}]['boxes'] must be a tensor, got {type(boxes).__name__}")
        if boxes.dtype == torch.bool or boxes.is_complex():
            raise TypeError(f"targets[{b}]['boxes'] must be real numbers, got {boxes.dtype}")
        if boxes.dim() != 2 or boxes.shape[1] != 4:
            raise ValueError(f"targets[{b}]['boxes'] must be [g, 4], got {tuple(boxes.shape)}")
        boxes = boxes.to(sample.device, torch.float32)
        if not (boxes.isfinite().all() and (boxes[:, 2:] >= boxes[:, :2]).all()):
            raise ValueError(
                f"targets[{b}]['boxes'] must be finite with x2 >= x1 and y2 >= y1, "
                f"got {target['boxes'].tolist()}"
            )
        boxes = to_half_open(boxes)
        height, width = sample.shape[-2:]
        size = boxes.new_tensor([width, height])
        first, last = boxes[:, :2], boxes[:, 2:]
        if not ((last > 0) & (first < size) & (first >= -size) & (last <= 2 * size)).all():
            raise ValueError(
                f"targets[{b}]['boxes'] must lie at least partly on the image of {width} x "
                f"{height} pixels and reach no further than its size beyond it, got "
                f"{target['boxes'].tolist()}"
            )
        truth.append(boxes)
    return truth
