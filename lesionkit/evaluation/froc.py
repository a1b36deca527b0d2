"""Free-response ROC: sensitivity against false positives per image.

The definition is that of 3DCE (Yan et al. 2018, ``rcnn/utils/evaluation.py``), which the
published DeepLesion numbers rest on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch

Detections = Sequence[np.ndarray | torch.Tensor | Mapping[str, np.ndarray | torch.Tensor]]
GroundTruth = Sequence[np.ndarray | torch.Tensor]


class DetectionStatus(IntEnum):
    """What one detected box is, given all boxes with a higher score."""

    FALSE_POSITIVE = 0  # overlaps no lesion enough
    HIT = 1  # the first box on at least one lesion
    DUPLICATE = 2  # on lesions already hit: neither a true nor a false positive


@dataclass(frozen=True, eq=False)
class FrocResult:
    """What :func:`froc` measured; ``print`` it for a table.

    Attributes:
        fp_per_image: the false positives per image asked for, [F] float64.
        sensitivity: share of lesions found at each of them, [F] float64.
        curve_fp, curve_sensitivity: the whole curve, [N] float64: false positives per image and
            sensitivity after each of the N boxes in order of falling score.
        curve_score: the score of that box, [N] float64: detections from this score on give this
            point of the curve (for equal scores, its last point).
        status: for each image, the :class:`DetectionStatus` of its boxes in the caller's order,
            [n] int8.
        num_images, num_lesions, iou_threshold: what it was measured on, and how.
    """

    fp_per_image: np.ndarray
    sensitivity: np.ndarray
    curve_fp: np.ndarray
    curve_sensitivity: np.ndarray
    curve_score: np.ndarray
    status: tuple[np.ndarray, ...]
    num_images: int
    num_lesions: int
    iou_threshold: float

    def __str__(self) -> str:
        rates = "".join(f"{rate:>8g}" for rate in self.fp_per_image)
        values = "".join(f"{100 * value:>8.2f}" for value in self.sensitivity)
        return (
            f"FROC of {self.num_lesions} lesions in {self.num_images} images, "
            f"IoU >= {self.iou_threshold:g}\n"
            f"false positives per image{rates}\n"
            f"sensitivity in %         {values}"
        )


def froc(
    detections: Detections,
    ground_truth: GroundTruth,
    fp_per_image: Sequence[float] = (0.5, 1, 2, 4, 8, 16),
    iou_threshold: float = 0.5,
    beyond: str = "hold",
) -> FrocResult:
    """Sensitivity at given numbers of false positives per image.

    All boxes of all images are taken in order of falling score; boxes of equal score stay in the
    caller's order (image by image, row by row), and each still makes a point of its own. A box
    whose IoU with every lesion of its image is below ``iou_threshold`` is a false positive. Any
    other box hits all lesions it overlaps that much; the first box counts, and a box that only
    meets lesions already hit is neither a true nor a false positive. Boxes are inclusive pixels:
    the width is x2 - x1 + 1. The IoU is computed in float64.

    Args:
        detections: for each image [n, 5] (x1, y1, x2, y2, score), or a mapping with ``"boxes"``
            [n, 4] and ``"scores"`` [n]; numpy or torch; empty where nothing was found.
        ground_truth: for each image [g, 4]; empty for an image without lesions.
        fp_per_image: the false positives per image to report.
        iou_threshold: least IoU of a hit, in (0, 1].
        beyond: how the curve is read. Each box adds either a false positive or hits, so the curve
            is a staircase, and interpolating linearly between its points gives the step's value.
            ``"hold"``: several points with the same rate stand for their last, the last
            sensitivity holds right of the curve, and left of it the sensitivity is 0.
            ``"extrapolate"``: the 3DCE code's linear extrapolation, which takes the first of
            several points with the same rate (where that code divides by zero, at a vertical end
            of the curve, the sensitivity of the end is held).

    Raises:
        ValueError: there is no lesion at all, the lengths differ, a shape is wrong, or a number
            is not finite; the message names the argument and image.

    Example:
        One image with two lesions, one without; the best box is on the first lesion, the next on
        no lesion, the third on the first lesion again, the last one on the second lesion.

        >>> detections = [
        ...     [[10, 10, 19, 19, 0.9], [11, 10, 20, 19, 0.7], [50, 50, 59, 54, 0.6]],
        ...     [[30, 30, 39, 39, 0.8]],
        ... ]
        >>> ground_truth = [[[10, 10, 19, 19], [50, 50, 59, 59]], []]
        >>> result = froc(detections, ground_truth, fp_per_image=(0.25, 0.5, 1))
        >>> result.curve_fp.tolist()
        [0.0, 0.5, 0.5, 0.5]
        >>> result.curve_sensitivity.tolist()
        [0.5, 0.5, 0.5, 1.0]
        >>> result.sensitivity.tolist()
        [0.5, 1.0, 1.0]
        >>> [status.tolist() for status in result.status]
        [[1, 2, 1], [0]]
    """
    rates = np.asarray(fp_per_image, dtype=np.float64)
    if rates.ndim != 1 or not np.all(np.isfinite(rates) & (rates >= 0)):
        raise ValueError(f"fp_per_image must be finite numbers >= 0, got {fp_per_image!r}")
    if beyond not in ("hold", "extrapolate"):
        raise ValueError(f'beyond must be "hold" or "extrapolate", got {beyond!r}')
    matched = _match(detections, ground_truth, iou_threshold)
    if matched.num_lesions == 0:
        raise ValueError("ground_truth has no lesion in any image: sensitivity is undefined")

    count = len(matched.order)
    false_positive = matched.status[matched.order] == DetectionStatus.FALSE_POSITIVE
    found = np.bincount(matched.first_hit[matched.first_hit < count], minlength=count)
    curve_fp = np.cumsum(false_positive) / len(detections)
    curve_sensitivity = np.cumsum(found) / matched.num_lesions
    return FrocResult(
        fp_per_image=rates,
        sensitivity=_read_curve(curve_fp, curve_sensitivity, rates, beyond),
        curve_fp=curve_fp,
        curve_sensitivity=curve_sensitivity,
        curve_score=matched.scores[matched.order],
        status=matched.status_per_image,
        num_images=len(detections),
        num_lesions=matched.num_lesions,
        iou_threshold=float(iou_threshold),
    )


def match_detections(
    detections: Detections, ground_truth: GroundTruth, iou_threshold: float = 0.5
) -> tuple[np.ndarray, ...]:
    """The :class:`DetectionStatus` of every box, [n] int8 per image, in the caller's order.

    Arguments and rules are those of :func:`froc`, but there may be no lesion at all.
    """
    return _match(detections, ground_truth, iou_threshold).status_per_image


@dataclass(frozen=True, eq=False)
class _Matched:
    scores: np.ndarray  # [N], boxes of all images one after the other
    order: np.ndarray  # [N] indices of falling score
    status: np.ndarray  # [N] int8
    first_hit: np.ndarray  # [L] rank of the first box on each lesion, N where there is none
    status_per_image: tuple[np.ndarray, ...]

    @property
    def num_lesions(self) -> int:
        return len(self.first_hit)


def _match(detections: Detections, ground_truth: GroundTruth, iou_threshold: float) -> _Matched:
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be in (0, 1], got {iou_threshold!r}")
    if len(detections) != len(ground_truth):
        raise ValueError(
            f"detections and ground_truth must have one entry per image, "
            f"got {len(detections)} and {len(ground_truth)}"
        )
    found = [as_detections(entry, f"detections[{i}]") for i, entry in enumerate(detections)]
    truth = [as_truth(entry, f"ground_truth[{i}]") for i, entry in enumerate(ground_truth)]
    box_counts = np.array([len(entry) for entry in found], dtype=np.int64)
    lesion_counts = np.array([len(entry) for entry in truth], dtype=np.int64)
    boxes = np.concatenate([np.empty((0, 5)), *found])
    lesions = np.concatenate([np.empty((0, 4)), *truth])
    count = len(boxes)
    order = np.argsort(-boxes[:, 4], kind="stable")
    rank = np.empty(count, dtype=np.int64)
    rank[order] = np.arange(count)

    # All (box, lesion) pairs of the same image, as two index arrays.
    pairs_per_box = np.repeat(lesion_counts, box_counts)
    first_lesion = np.repeat(np.cumsum(lesion_counts) - lesion_counts, box_counts)
    first_pair = np.cumsum(pairs_per_box) - pairs_per_box
    box = np.repeat(np.arange(count), pairs_per_box)
    lesion = np.arange(len(box)) + np.repeat(first_lesion - first_pair, pairs_per_box)

    overlaps = _iou(boxes[box, :4], lesions[lesion]) >= iou_threshold
    box, lesion = box[overlaps], lesion[overlaps]
    first_hit = np.full(len(lesions), count)
    np.minimum.at(first_hit, lesion, rank[box])
    status = np.full(count, DetectionStatus.FALSE_POSITIVE, dtype=np.int8)
    status[box] = DetectionStatus.DUPLICATE
    status[order[first_hit[first_hit < count]]] = DetectionStatus.HIT
    per_image = tuple(np.split(status, np.cumsum(box_counts)[:-1])) if len(box_counts) else ()
    return _Matched(boxes[:, 4], order, status, first_hit, per_image)


def _iou(boxes: np.ndarray, lesions: np.ndarray) -> np.ndarray:
    """IoU of boxes [n, 4] with lesions [n, 4], pair by pair; an inverted box has no area."""

    def area(x1y1: np.ndarray, x2y2: np.ndarray) -> np.ndarray:
        return np.maximum(x2y2 - x1y1 + 1, 0).prod(axis=1)

    shared = area(
        np.maximum(boxes[:, :2], lesions[:, :2]), np.minimum(boxes[:, 2:], lesions[:, 2:])
    )
    union = area(boxes[:, :2], boxes[:, 2:]) + area(lesions[:, :2], lesions[:, 2:]) - shared
    return shared / union


def _read_curve(x: np.ndarray, y: np.ndarray, at: np.ndarray, beyond: str) -> np.ndarray:
    if len(x) == 0:
        return np.zeros(len(at))
    if beyond == "extrapolate":
        return y[np.minimum(np.searchsorted(x, at, side="left"), len(x) - 1)]
    reached = np.searchsorted(x, at, side="right")
    return np.where(reached > 0, y[reached - 1], 0.0)


def as_detections(entry: object, name: str) -> np.ndarray:
    """One image's detections, in any form :func:`froc` takes, as float64 [n, 5]."""
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
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().double().numpy()  # numpy has no bfloat16
    array = np.asarray(value, dtype=np.float64)
    if array.size == 0:
        return array.reshape((0, columns) if columns else (0,))
    if array.ndim != (2 if columns else 1) or (columns and array.shape[1] != columns):
        shape = f"[n, {columns}]" if columns else "[n]"
        raise ValueError(f"{name} must have shape {shape}, got {list(array.shape)}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)][0]}")
    return array
