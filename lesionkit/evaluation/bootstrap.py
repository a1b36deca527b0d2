"""How sure a FROC is: confidence intervals and paired comparison by resampling patients."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lesionkit.evaluation.curve import MEAN_RATES, read_sensitivity
from lesionkit.evaluation.froc import FrocResult


@dataclass(frozen=True, eq=False)
class FrocIntervals:
    """Percentile intervals of a FROC; ``print`` it for a table.

    Attributes:
        fp_per_image, sensitivity: those of the result, [F] float64.
        low, high: ends of the interval of each sensitivity, [F] float64.
        mean, mean_low, mean_high: of the mean sensitivity at 0.5, 1, 2 and 4.
        replicates: the sensitivities of each resample, [R, F] float64.
        mean_replicates: the mean of each resample, [R] float64.
        confidence: the share of resamples inside.
        num_patients: how many were resampled (images, where no patients were given).
    """

    fp_per_image: np.ndarray
    sensitivity: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mean: float
    mean_low: float
    mean_high: float
    replicates: np.ndarray = field(repr=False)
    mean_replicates: np.ndarray = field(repr=False)
    confidence: float
    num_patients: int

    def __str__(self) -> str:
        def line(end: str, values: np.ndarray, mean: float) -> str:
            name = f"{100 * self.confidence:g} % interval {end}"
            return f"{name:25}{''.join(f'{100 * v:>8.2f}' for v in values)}{100 * mean:>12.2f}"

        return "\n".join(
            [line("from", self.low, self.mean_low), line("to", self.high, self.mean_high)]
        )


@dataclass(frozen=True, eq=False)
class FrocComparison:
    """Two runs on the same images; differences are the first run's less the other's.

    Attributes:
        fp_per_image: [F] float64.
        difference, low, high: of the sensitivity at each rate and its interval, [F] float64.
        p_value: [F] float64, two-sided, of no difference; never below 2 / (replicates + 1).
        mean_difference, mean_low, mean_high, mean_p_value: of the mean at 0.5, 1, 2 and 4.
        replicates, mean_replicates, confidence, num_patients: as in :class:`FrocIntervals`.
    """

    fp_per_image: np.ndarray
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_value: np.ndarray
    mean_difference: float
    mean_low: float
    mean_high: float
    mean_p_value: float
    replicates: np.ndarray = field(repr=False)
    mean_replicates: np.ndarray = field(repr=False)
    confidence: float
    num_patients: int


def bootstrap_froc(
    result: FrocResult,
    patients: Sequence[object] | None = None,
    replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> FrocIntervals:
    """Confidence intervals of a FROC by the percentile bootstrap over patients.

    Each replicate draws as many patients as there are, with replacement, and is the exact FROC of
    their images: those of a patient drawn twice count twice, the copies of a box one after the
    other in the order of scores. A draw without any lesion is drawn again. The same seed gives
    the same numbers.

    Args:
        result: what ``froc`` measured.
        patients: who each image is of, [I], numbers or strings; by default every image is a
            patient of its own, which makes intervals too narrow where patients have several.
        replicates: how many draws.
        confidence: of the interval, in (0, 1).
        seed: of the draws.
    """
    values, num_patients = _replicates([result], patients, replicates, confidence, seed)
    low, high = _interval(values[0], confidence)
    count = len(result.fp_per_image)
    return FrocIntervals(
        fp_per_image=result.fp_per_image,
        sensitivity=result.sensitivity,
        low=low[:count],
        high=high[:count],
        mean=result.mean,
        mean_low=float(low[count]),
        mean_high=float(high[count]),
        replicates=values[0][:, :count],
        mean_replicates=values[0][:, count],
        confidence=confidence,
        num_patients=num_patients,
    )


def compare_froc(
    result: FrocResult,
    other: FrocResult,
    patients: Sequence[object] | None = None,
    replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> FrocComparison:
    """The difference of two runs on the same images, paired: each replicate draws the same
    patients for both.

    The p value is twice the share of replicates on the rarer side of zero, those at zero counted
    on both sides, and one added to both counts (Davison and Hinkley 1997, 4.2); 1 at most.
    Arguments are those of :func:`bootstrap_froc`.

    Raises:
        ValueError: the runs are not of the same images and lesions, or of the same rates.
    """
    if not np.array_equal(result.fp_per_image, other.fp_per_image):
        raise ValueError("result and other must be measured at the same fp_per_image")
    if not np.array_equal(result.ranking.lesions, other.ranking.lesions):
        raise ValueError("result and other must be measured on the same images and lesions")
    values, num_patients = _replicates([result, other], patients, replicates, confidence, seed)
    differences = values[0] - values[1]
    low, high = _interval(differences, confidence)
    below = (differences <= 0).sum(axis=0)
    above = (differences >= 0).sum(axis=0)
    p_value = np.minimum(2 * (np.minimum(below, above) + 1) / (replicates + 1), 1.0)
    count = len(result.fp_per_image)
    return FrocComparison(
        fp_per_image=result.fp_per_image,
        difference=result.sensitivity - other.sensitivity,
        low=low[:count],
        high=high[:count],
        p_value=p_value[:count],
        mean_difference=result.mean - other.mean,
        mean_low=float(low[count]),
        mean_high=float(high[count]),
        mean_p_value=float(p_value[count]),
        replicates=differences[:, :count],
        mean_replicates=differences[:, count],
        confidence=confidence,
        num_patients=num_patients,
    )


def _replicates(
    results: Sequence[FrocResult],
    patients: Sequence[object] | None,
    replicates: int,
    confidence: float,
    seed: int,
) -> tuple[list[np.ndarray], int]:
    """For each result the sensitivities of every draw and their mean, [R, F + 1]."""
    images = results[0].num_images
    if replicates < 1:
        raise ValueError(f"replicates must be at least 1, got {replicates}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    if patients is not None and len(patients) != images:
        raise ValueError(f"patients must have one entry per image, {images}, got {len(patients)}")
    names, patient = np.unique(
        np.arange(images) if patients is None else np.asarray(patients), return_inverse=True
    )
    rng = np.random.default_rng(seed)
    lesions = np.bincount(patient, weights=results[0].ranking.lesions, minlength=len(names))
    rates = np.concatenate([results[0].fp_per_image, MEAN_RATES])
    values: list[list[np.ndarray]] = [[] for _ in results]
    # In pieces, so that memory does not grow with the number of replicates.
    for start in range(0, replicates, 64):
        draws = np.take(_draw(rng, min(64, replicates - start), lesions), patient, axis=1)
        for result, parts in zip(results, values, strict=True):
            read = read_sensitivity(result.ranking, rates, result.mode, draws)
            mean = read[:, -len(MEAN_RATES) :].mean(axis=1, keepdims=True)
            parts.append(np.hstack([read[:, : -len(MEAN_RATES)], mean]))
    return [np.concatenate(parts) for parts in values], len(names)


def _draw(rng: np.random.Generator, count: int, lesions: np.ndarray) -> np.ndarray:
    """How often each patient is drawn, [count, G] int64, at least one lesion in each draw."""
    size = len(lesions)
    drawn = np.empty((count, size), dtype=np.int64)
    for row in drawn:
        row[:] = 0
        while not row @ lesions:
            row[:] = np.bincount(rng.integers(0, size, size), minlength=size)
    return drawn


def _interval(values: np.ndarray, confidence: float) -> np.ndarray:
    """The lower and the upper end of each column's interval, [2, F]."""
    return np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
