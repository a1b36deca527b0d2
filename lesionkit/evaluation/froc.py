"""Free-response ROC: sensitivity against false positives per image.

The definition is that of 3DCE (Yan et al. 2018, ``rcnn/utils/evaluation.py``), which the
published DeepLesion numbers rest on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lesionkit.evaluation.boxes import pack
from lesionkit.evaluation.curve import MEAN_RATES, Ranking, rank_matches, read_sensitivity
from lesionkit.evaluation.matching import DetectionStatus, Matches, check_rules, match

if TYPE_CHECKING:
    from lesionkit.evaluation.boxes import Detections, GroundTruth

FP_PER_IMAGE = (0.5, 1, 2, 4, 8, 16)


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
        num_images, num_lesions, iou_threshold, mode, overlap: what it was measured on, and how.
        mean: the mean sensitivity at 0.5, 1, 2 and 4 false positives per image, whatever was
            asked for.
        ranking: what a bootstrap resamples.
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
    mode: str = "hold"
    overlap: str = "iou"
    mean: float = float("nan")
    ranking: Ranking | None = field(default=None, repr=False)

    def __str__(self) -> str:
        rates = "".join(f"{rate:>8g}" for rate in self.fp_per_image)
        values = "".join(f"{100 * value:>8.2f}" for value in self.sensitivity)
        overlap = {"iou": "IoU", "iobb": "IoBB"}[self.overlap]
        return (
            f"FROC of {self.num_lesions} lesions in {self.num_images} images, "
            f"{overlap} >= {self.iou_threshold:g}, mode {self.mode}\n"
            f"false positives per image{rates}  mean 0.5-4\n"
            f"sensitivity in %         {values}{100 * self.mean:>12.2f}"
        )


def froc(
    detections: "Detections",
    ground_truth: "GroundTruth",
    fp_per_image: Sequence[float] = FP_PER_IMAGE,
    iou_threshold: float = 0.5,
    mode: str = "hold",
    overlap: str = "iou",
) -> FrocResult:
    """Sensitivity at given numbers of false positives per image.

    All boxes of all images are taken in order of falling score; boxes of equal score stay in the
    caller's order (image by image, row by row), and each still makes a point of its own. A box
    whose overlap with every lesion of its image is below ``iou_threshold`` is a false positive.
    Any other box hits all lesions it overlaps that much; the first box counts, and a box that only
    meets lesions already hit is neither a true nor a false positive. Boxes are inclusive pixels:
    the width is x2 - x1 + 1. The overlap is computed in float64.

    Each box adds either a false positive or hits, so the curve is a staircase, and interpolating
    linearly between its points gives the step's value.

    Args:
        detections: for each image [n, 5] (x1, y1, x2, y2, score), or a mapping with ``"boxes"``
            [n, 4] and ``"scores"`` [n]; numpy or torch; empty where nothing was found.
        ground_truth: for each image [g, 4]; empty for an image without lesions.
        fp_per_image: the false positives per image to report.
        iou_threshold: least overlap of a hit, in (0, 1].
        mode: ``"hold"``: of several points with the same rate the last is read, the last
            sensitivity holds right of the curve, and left of it the sensitivity is 0.
            ``"3dce"``: as the 3DCE code, which extrapolates linearly and takes the first of
            several points with the same rate (where it divides by zero, at a vertical end of the
            curve, the sensitivity of the end is taken).
            ``"strict"``: one box finds one lesion at most, that which it overlaps most among those
            not found yet (the first of equals), and a box for which none is left is a false
            positive, duplicates too; the curve is read as in ``"hold"``. COCO and LUNA16 match one
            to one as well.
        overlap: ``"iou"``, intersection over union, or ``"iobb"``, intersection over the area of
            the detected box.

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
        >>> froc(detections, ground_truth, (0.25, 0.5, 1), mode="3dce").sensitivity.tolist()
        [0.5, 0.5, 1.0]
        >>> froc(detections, ground_truth, (0.25, 0.5, 1), mode="strict").sensitivity.tolist()
        [0.5, 0.5, 1.0]
    """
    check_rates(fp_per_image)
    check_rules(iou_threshold, mode, overlap)
    found, truth = pack(detections, ground_truth)
    if len(truth.values) == 0:
        raise ValueError("ground_truth has no lesion in any image: sensitivity is undefined")
    matches = match(found, truth, iou_threshold, mode, overlap)
    return measure(matches, fp_per_image, iou_threshold, mode, overlap)


def check_rates(fp_per_image: Sequence[float]) -> None:
    """Raise ValueError unless these are rates at which a curve can be read."""
    rates = np.asarray(fp_per_image, dtype=np.float64)
    if rates.ndim != 1 or not np.all(np.isfinite(rates) & (rates >= 0)):
        raise ValueError(f"fp_per_image must be finite numbers >= 0, got {fp_per_image!r}")


def measure(
    matches: Matches,
    fp_per_image: Sequence[float],
    iou_threshold: float,
    mode: str,
    overlap: str,
    counted: np.ndarray | None = None,
) -> FrocResult:
    """The curve of matched boxes and what it gives at each rate; ``counted`` [L] bool chooses the
    lesions that sensitivity is about, which must be some.
    """
    rates = np.asarray(fp_per_image, dtype=np.float64)
    ranking = rank_matches(matches, counted)
    count, lesions, images = len(matches.order), int(ranking.lesions.sum()), len(ranking.lesions)
    first_hit = matches.first_hit if counted is None else matches.first_hit[counted]
    found = np.bincount(first_hit[first_hit < count], minlength=count)
    false_positive = matches.status[matches.order] == DetectionStatus.FALSE_POSITIVE
    (read,) = read_sensitivity(ranking, np.concatenate([rates, MEAN_RATES]), mode)
    return FrocResult(
        fp_per_image=rates,
        sensitivity=read[: len(rates)],
        curve_fp=np.cumsum(false_positive) / images,
        curve_sensitivity=np.cumsum(found) / lesions,
        curve_score=matches.scores[matches.order],
        status=matches.status_per_image,
        num_images=images,
        num_lesions=lesions,
        iou_threshold=float(iou_threshold),
        mode=mode,
        overlap=overlap,
        mean=float(read[len(rates) :].mean()),
        ranking=ranking,
    )
