"""Detections and ground truth of many images as flat arrays, and how much boxes overlap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    Detections = Sequence[np.ndarray | Tensor | Mapping[str, np.ndarray | Tensor]]
    GroundTruth = Sequence[np.ndarray | Tensor]

OVERLAPS = ("iou", "iobb")


@dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of all images, one image after the other, in the caller's order.

    values: [N, 5] float64 (x1, y1, x2, y2, score) of detections, [N, 4] of lesions.
    counts: [I] int64, how many boxes each image has.
    """

    values: np.ndarray
    counts: np.ndarray

    @property
    def image(self) -> np.ndarray:
        """[N] int64, the image of each box."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


def pack(
    detections: "Detections", ground_truth: "GroundTruth", names: Sequence[str] | None = None
) -> tuple[Boxes, Boxes]:
    """Detections and lesions, checked; ``names`` are what messages call the images."""
    if len(detections) != len(ground_truth):
        raise ValueError(
            f"detections and ground_truth must have one entry per image, "
            f"got {len(detections)} and {len(ground_truth)}"
        )
    names = range(len(detections)) if names is None else names
    found = [as_detections(e, f"detections[{i}]") for i, e in zip(names, detections, strict=True)]
    truth = [as_truth(e, f"ground_truth[{i}]") for i, e in zip(names, ground_truth, strict=True)]
    return tuple(
        Boxes(
            np.concatenate([np.empty((0, columns)), *entries]),
            np.array([len(entry) for entry in entries], dtype=np.int64),
        )
        for columns, entries in ((5, found), (4, truth))
    )


def overlap_of_pairs(boxes: np.ndarray, lesions: np.ndarray, overlap: str) -> np.ndarray:
    """Overlap of boxes [n, 4] with lesions [n, 4], pair by pair, float64 [n] in 0..1.

    The shared area over that of both together (``"iou"``) or over the box's own (``"iobb"``);
    an inverted box has no area and overlaps nothing.
    """
    shared = _area(
        np.maximum(boxes[:, :2], lesions[:, :2]), np.minimum(boxes[:, 2:], lesions[:, 2:])
    )
    whole = _area(boxes[:, :2], boxes[:, 2:])
    if overlap == "iou":
        whole = whole + _area(lesions[:, :2], lesions[:, 2:]) - shared
    return np.divide(shared, whole, out=np.zeros(len(shared)), where=whole > 0)


def _area(x1y1: np.ndarray, x2y2: np.ndarray) -> np.ndarray:
    return np.maximum(x2y2 - x1y1 + 1, 0).prod(axis=1)


def as_detections(entry: object, name: str) -> np.ndarray:
    """One image's detections, in any form that ``froc`` takes, as float64 [n, 5]."""
    if not isinstance(entry, Mapping):
        return _finite(entry, 5, name)
    missing = {"boxes", "scores"} - set(entry)
    if missing:
        raise ValueError(f"{name} must have keys 'boxes' and 'scores', got {sorted(entry)}")
    boxes = _finite(entry["boxes"], 4, f"{name}['boxes']")
    scores = _finite(entry["scores"], None, f"{name}['scores']")
    if len(scores) != len(boxes):
        raise ValueError(f"{name} must have one score per box, got {len(scores)}, {len(boxes)}")
    return np.column_stack([boxes, scores])


def as_truth(entry: object, name: str) -> np.ndarray:
    """One image's lesions as float64 [g, 4]."""
    boxes = _finite(entry, 4, name)
    if np.any(boxes[:, 2:] < boxes[:, :2]):
        raise ValueError(f"{name} must have boxes x1 <= x2, y1 <= y2, got {boxes.tolist()}")
    return boxes


def _finite(value: object, columns: int | None, name: str) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor; torch itself is not needed to know one
        value = value.detach().cpu().double().numpy()  # numpy has no bfloat16
    array = np.asarray(value, dtype=np.float64)
    if array.size == 0:
        return array.reshape((0, columns) if columns else (0,))
    if array.ndim != (2 if columns else 1) or (columns and array.shape[1] != columns):
        shape = f"[n, {columns}]" if columns else "[n]"
        raise ValueError(f"{name} must have shape {shape}, got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)][0]}")
    return array
