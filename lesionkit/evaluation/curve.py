"""Reading the sensitivity at given numbers of false positives, for all images or a resample."""

from dataclasses import dataclass

import numpy as np

from lesionkit.evaluation.matching import DetectionStatus, Matches

MEAN_RATES = (0.5, 1.0, 2.0, 4.0)  # false positives per image of the usual mean
_CHUNK = 2**18  # numbers at a time: what a cache holds


@dataclass(frozen=True, eq=False)
class Ranking:
    """False positives and finds by falling score: all that the curve depends on.

    Attributes:
        false_positive_image: [P] int64, the image of each false positive.
        hit_image: [H] int64, the image of each lesion found.
        hit_after: [H] int64, rising: how many false positives come before the box that finds it.
        lesions: [I] int64, lesions per image.
    """

    false_positive_image: np.ndarray
    hit_image: np.ndarray
    hit_after: np.ndarray
    lesions: np.ndarray


def rank_matches(matches: Matches, counted: np.ndarray | None = None) -> Ranking:
    """The ranking of matched boxes; ``counted`` [L] bool leaves out lesions, not what hits them."""
    false_positive = matches.status[matches.order] == DetectionStatus.FALSE_POSITIVE
    counted = np.ones(len(matches.first_hit), dtype=bool) if counted is None else counted
    found = np.flatnonzero(counted & (matches.first_hit < len(matches.order)))
    found = found[np.argsort(matches.first_hit[found], kind="stable")]
    return Ranking(
        false_positive_image=matches.image[matches.order[false_positive]],
        hit_image=matches.lesion_image[found],
        hit_after=np.cumsum(false_positive)[matches.first_hit[found]],
        lesions=np.bincount(matches.lesion_image[counted], minlength=len(matches.box_counts)),
    )


def read_sensitivity(
    ranking: Ranking, rates: np.ndarray, mode: str, weights: np.ndarray | None = None
) -> np.ndarray:
    """Sensitivity [R, F] at ``rates`` [F] in R resamples of the images.

    ``weights`` [R, I] says how often each resample has each image; without it there is one, of
    every image once. Each must have a lesion.

    A box adds either a false positive or finds, so the curve is a staircase and its value at a
    rate is what was found before some false positive. ``"3dce"`` stops at the first that reaches
    the rate, the others at the first that exceeds it. (Linear interpolation between the points,
    as 3DCE has it, gives just this, and so does extrapolation: the ends are level.)
    """
    images = len(ranking.lesions)
    if weights is None:
        weights = np.ones((1, images), dtype=np.int64)
    rows = max(1, _CHUNK // max(len(ranking.false_positive_image), images, 1))
    return np.concatenate(
        [
            _read(ranking, rates, mode, weights[start : start + rows])
            for start in range(0, len(weights), rows)
        ]
    )


def _read(ranking: Ranking, rates: np.ndarray, mode: str, weights: np.ndarray) -> np.ndarray:
    stop = _stop(rates, weights.sum(axis=1), mode)
    passed = _search_rows(_cumulate(weights, ranking.false_positive_image), stop)
    found = np.hstack([np.zeros((len(weights), 1), int), _cumulate(weights, ranking.hit_image)])
    before = np.searchsorted(ranking.hit_after, passed, side="right")
    return np.take_along_axis(found, before, axis=1) / (weights @ ranking.lesions)[:, None]


def _stop(rates: np.ndarray, images: np.ndarray, mode: str) -> np.ndarray:
    """Which false positive, counted from 1, ends the reading: [R, F] for ``images`` [R].

    Rates are compared as floating-point numbers, as the curve holds them.
    """
    images = images[:, None]
    near = np.floor(np.minimum(rates * images, 2.0**52)).astype(np.int64)
    if mode == "3dce":
        near = np.maximum(near, 1)
        return near + (near / images < rates)
    near += (near + 1) / images <= rates
    near -= near / images > rates
    return near + 1


def _cumulate(weights: np.ndarray, image: np.ndarray) -> np.ndarray:
    # Not weights[:, image], whose rows are not contiguous: many times slower from here on.
    return np.cumsum(np.take(weights, image, axis=1), axis=1)


def _search_rows(rising: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``np.searchsorted`` row by row: integers >= 0, rising [R, P] (spoilt), values [R, F]."""
    rows, length = rising.shape
    row = np.arange(rows)[:, None]
    step = int(rising[:, -1].max(initial=0)) + 2 if length else 2
    rising += row * step  # one rising sequence of all rows
    flat = np.searchsorted(rising.ravel(), np.minimum(values, step - 1) + row * step)
    return flat - row * length
