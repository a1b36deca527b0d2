"""What the runs of a variant found, over several seeds: means, intervals and differences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lesionkit.evaluation import FrocIntervals, FrocResult

CONFIDENCE = 0.95
CURVE_FP = np.geomspace(0.125, 16, 85)  # false positives per image of the curves that are drawn


@dataclass(frozen=True, eq=False)
class Measured:
    """Sensitivities at F false positives per image and, in the last place, their mean at 0.5 to 4.

    Attributes:
        sensitivity: mean over the seeds, [F + 1] float64.
        of_seed: of each seed, [S, F + 1].
        replicates: mean over the seeds in each resample of the patients, [R, F + 1].
        curve: mean over the seeds at `CURVE_FP`.
        num_images, num_lesions: measured on.
    """

    sensitivity: np.ndarray
    of_seed: np.ndarray
    replicates: np.ndarray
    curve: np.ndarray
    num_images: int
    num_lesions: int

    @property
    def interval(self) -> np.ndarray:
        """[2, F + 1]: low and high ends, over resampled patients, for these seeds."""
        return _interval(self.replicates)

    @property
    def seed_deviation(self) -> np.ndarray:
        """[F + 1]: standard deviation over the seeds; NaN for a single one."""
        if len(self.of_seed) < 2:
            return np.full(len(self.sensitivity), np.nan)
        return self.of_seed.std(axis=0, ddof=1)


@dataclass(frozen=True, eq=False)
class Difference:
    """A variant less its baseline, each [F + 1]: value and both ends over resampled patients."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def pool(results: Sequence[FrocResult], intervals: Sequence[FrocIntervals]) -> Measured:
    """One variant's runs, a result and its intervals for each seed.

    The intervals must come from the same images, patients and seed of draws, so that replicate r
    stands for the same patients in all of them.
    """
    of_seed = np.array([[*result.sensitivity, result.mean] for result in results])
    replicates = [np.column_stack([i.replicates, i.mean_replicates]) for i in intervals]
    return Measured(
        sensitivity=of_seed.mean(axis=0),
        of_seed=of_seed,
        replicates=np.mean(replicates, axis=0),
        curve=np.mean([_curve(result) for result in results], axis=0),
        num_images=results[0].num_images,
        num_lesions=results[0].num_lesions,
    )


def difference(ours: Measured, baseline: Measured) -> Difference:
    """``ours`` less ``baseline``, measured on the same patients."""
    low, high = _interval(ours.replicates - baseline.replicates)
    return Difference(ours.sensitivity - baseline.sensitivity, low, high)


def seed_margin(ours: Measured, baseline: Measured, all_rows: Sequence[Measured]) -> np.ndarray:
    """[F + 1]: half of the interval that seeds alone give a difference; NaN for single seeds.

    Student's t with the variance over seeds that all rows of the table have in common: three
    seeds of one row say too little about it.
    """
    from scipy.stats import t

    repeated = [row for row in all_rows if len(row.of_seed) > 1]
    degrees = sum(len(row.of_seed) - 1 for row in repeated)
    if degrees == 0:
        return np.full(len(ours.sensitivity), np.nan)
    squares = sum(row.seed_deviation**2 * (len(row.of_seed) - 1) for row in repeated)
    per_mean = 1 / len(ours.of_seed) + 1 / len(baseline.of_seed)
    return t.ppf((1 + CONFIDENCE) / 2, degrees) * np.sqrt(squares / degrees * per_mean)


def _curve(result: FrocResult) -> np.ndarray:
    last = np.searchsorted(result.curve_fp, CURVE_FP, side="right") - 1
    # Left of the first point, and without any, nothing is found.
    return np.concatenate([result.curve_sensitivity, [0.0]])[last]


def _interval(replicates: np.ndarray) -> np.ndarray:
    return np.quantile(replicates, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
