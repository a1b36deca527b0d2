"""Which box finds which lesion."""

from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from lesionkit.evaluation.boxes import OVERLAPS, Boxes, overlap_of_pairs, pack

if TYPE_CHECKING:
    from lesionkit.evaluation.boxes import Detections, GroundTruth

MODES = ("hold", "3dce", "strict")
_PAIRS = 2**20  # of a box and a lesion, in memory at once


class DetectionStatus(IntEnum):
    """What one detected box is, given all boxes with a higher score."""

    FALSE_POSITIVE = 0  # overlaps no lesion enough; in mode "strict" none that is still free
    HIT = 1  # the first box on at least one lesion
    DUPLICATE = 2  # on lesions already hit: neither a true nor a false positive; not in "strict"


@dataclass(frozen=True, eq=False)
class Matches:
    """Boxes matched with lesions.

    Attributes:
        scores: [N] float64, in the caller's order, as are ``status`` and ``image``.
        status: [N] int8, of each box.
        image: [N] int64, of each box.
        order: [N] int64, the boxes by falling score; equal ones in the caller's order.
        first_hit: [L] int64, the place in ``order`` of the box that finds each lesion, N if none.
        lesion_image: [L] int64, the image of each lesion.
        box_counts: [I] int64, boxes per image.
    """

    scores: np.ndarray
    status: np.ndarray
    image: np.ndarray
    order: np.ndarray
    first_hit: np.ndarray
    lesion_image: np.ndarray
    box_counts: np.ndarray

    @property
    def status_per_image(self) -> tuple[np.ndarray, ...]:
        if len(self.box_counts) == 0:
            return ()
        return tuple(np.split(self.status, np.cumsum(self.box_counts)[:-1]))


def match_detections(
    detections: "Detections",
    ground_truth: "GroundTruth",
    iou_threshold: float = 0.5,
    mode: str = "hold",
    overlap: str = "iou",
) -> tuple[np.ndarray, ...]:
    """The :class:`DetectionStatus` of every box, [n] int8 per image, in the caller's order.

    Arguments and rules are those of ``froc``, but there may be no lesion at all.
    """
    check_rules(iou_threshold, mode, overlap)
    found, truth = pack(detections, ground_truth)
    return match(found, truth, iou_threshold, mode, overlap).status_per_image


def check_rules(iou_threshold: float, mode: str, overlap: str) -> None:
    """Raise ValueError for what :func:`match` does not know."""
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be in (0, 1], got {iou_threshold!r}")
    for name, value, allowed in (("mode", mode, MODES), ("overlap", overlap, OVERLAPS)):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def match(found: Boxes, truth: Boxes, iou_threshold: float, mode: str, overlap: str) -> Matches:
    """Match boxes with the lesions of their images, by the rules of ``froc``."""
    count, lesions = len(found.values), len(truth.values)
    order = np.argsort(-found.values[:, 4], kind="stable")
    rank = np.empty(count, dtype=np.int64)
    rank[order] = np.arange(count)

    box, lesion, overlaps = _overlapping(found, truth, iou_threshold, overlap)
    first_hit = np.full(lesions, count)
    status = np.full(count, DetectionStatus.FALSE_POSITIVE, dtype=np.int8)
    if mode == "strict":
        by_choice = np.lexsort((lesion, -overlaps, rank[box]))
        _choose(rank[box[by_choice]], lesion[by_choice], first_hit)
    else:
        np.minimum.at(first_hit, lesion, rank[box])
        status[box] = DetectionStatus.DUPLICATE
    status[order[first_hit[first_hit < count]]] = DetectionStatus.HIT
    return Matches(
        scores=found.values[:, 4],
        status=status,
        image=found.image,
        order=order,
        first_hit=first_hit,
        lesion_image=truth.image,
        box_counts=found.counts,
    )


def _overlapping(
    found: Boxes, truth: Boxes, threshold: float, overlap: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Box, lesion and overlap of all pairs on one image that overlap enough."""
    per_box = np.repeat(truth.counts, found.counts)
    first_lesion = np.repeat(np.cumsum(truth.counts) - truth.counts, found.counts)
    # In pieces of whole boxes, so that memory does not grow with the number of all pairs.
    pieces = np.flatnonzero(np.diff(np.cumsum(per_box) // _PAIRS)) + 1
    parts = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for start, stop in pairwise([0, *pieces.tolist(), len(per_box)]):
        counts = per_box[start:stop]
        box = np.repeat(np.arange(start, stop), counts)
        first_pair = np.cumsum(counts) - counts
        lesion = np.arange(len(box)) + np.repeat(first_lesion[start:stop] - first_pair, counts)
        overlaps = overlap_of_pairs(found.values[box, :4], truth.values[lesion], overlap)
        enough = overlaps >= threshold
        parts.append((box[enough], lesion[enough], overlaps[enough]))
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


def _choose(ranks: np.ndarray, lesions: np.ndarray, first_hit: np.ndarray) -> None:
    """Give each box, in order, the first of its lesions that no box before it has taken."""
    free = set(lesions.tolist())
    last = -1
    for rank, lesion in zip(ranks.tolist(), lesions.tolist(), strict=True):
        if rank != last and lesion in free:
            first_hit[lesion] = last = rank
            free.remove(lesion)
