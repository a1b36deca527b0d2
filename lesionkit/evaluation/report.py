"""All that is measured of a run, as text and as numbers for a file."""

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lesionkit.evaluation.bootstrap import (
    FrocComparison,
    FrocIntervals,
    bootstrap_froc,
    compare_froc,
)
from lesionkit.evaluation.froc import FP_PER_IMAGE, FrocResult, froc
from lesionkit.evaluation.groups import FrocGroup, froc_by_group
from lesionkit.files import atomic_write

if TYPE_CHECKING:
    from lesionkit.data.deeplesion import KeySlice
    from lesionkit.evaluation.boxes import Detections, GroundTruth


@dataclass(frozen=True)
class FrocOptions:
    """What to measure and how; the fields are arguments of ``froc``, ``bootstrap_froc`` and
    ``froc_by_group``. ``replicates`` 0 means no intervals.
    """

    fp_per_image: Sequence[float] = FP_PER_IMAGE
    iou_threshold: float = 0.5
    mode: str = "hold"
    overlap: str = "iou"
    replicates: int = 1000
    seed: int = 0
    by: Sequence[str] = ()
    convention: str = "subset"
    axis: str = "long"

    @property
    def rules(self) -> tuple:
        return self.fp_per_image, self.iou_threshold, self.mode, self.overlap


@dataclass(frozen=True, eq=False)
class FrocReport:
    """One run measured; ``print`` it for tables.

    Attributes:
        options: how.
        result, intervals: of all lesions; intervals are None without replicates.
        other, comparison: of the run that it is compared with, None without one.
        groups: for each grouping the groups by name, and the intervals of those with a lesion.
        unit: what was resampled, "patients" or "images".
    """

    options: FrocOptions
    result: FrocResult
    intervals: FrocIntervals | None
    other: FrocResult | None
    comparison: FrocComparison | None
    groups: dict[str, dict[str, tuple[FrocGroup, FrocIntervals | None]]]
    unit: str

    def __str__(self) -> str:
        parts = [str(self.result)]
        if self.intervals:
            parts[0] += f"\n{self.intervals}"
            parts[0] += f"\n{self.options.replicates} resamples of {self.intervals.num_patients} "
            parts[0] += self.unit
        if self.comparison:
            parts.append(_comparison_table(self.other, self.comparison))
        parts += [_group_table(by, groups, self.options) for by, groups in self.groups.items()]
        return "\n\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the curve, ready for JSON; sensitivities are shares of 1."""
        report = {
            "images": self.result.num_images,
            "mode": self.options.mode,
            "overlap": self.options.overlap,
            "iou_threshold": self.options.iou_threshold,
            "false_positives_per_image": self.result.fp_per_image.tolist(),
            **_numbers(self.result, self.intervals),
        }
        if self.intervals:
            report["intervals"] = {
                "confidence": self.intervals.confidence,
                "replicates": self.options.replicates,
                "seed": self.options.seed,
                self.unit: self.intervals.num_patients,
            }
        if self.comparison:
            compared = self.comparison
            report["comparison"] = {
                "other": _numbers(self.other, None),
                "difference": compared.difference.tolist(),
                "low": compared.low.tolist(),
                "high": compared.high.tolist(),
                "p_value": compared.p_value.tolist(),
                "mean_difference": compared.mean_difference,
                "mean_low": compared.mean_low,
                "mean_high": compared.mean_high,
                "mean_p_value": compared.mean_p_value,
            }
        if self.groups:
            report["convention"], report["diameter_axis"] = (
                self.options.convention,
                self.options.axis,
            )
            report["groups"] = {
                by: {
                    name: {"images": group.num_images, **_numbers(group.result, intervals)}
                    if group.result
                    else {"images": group.num_images, "lesions": 0}
                    for name, (group, intervals) in groups.items()
                }
                for by, groups in self.groups.items()
            }
        return report


def report_froc(
    detections: "Detections",
    ground_truth: "GroundTruth",
    options: FrocOptions,
    patients: Sequence[object] | None = None,
    records: "Sequence[KeySlice] | None" = None,
    other: "Detections | None" = None,
    progress: Callable[[int, int], None] | None = None,
) -> FrocReport:
    """Measure a run: FROC, intervals, comparison with another run, and groups.

    Args:
        detections, ground_truth: as ``froc`` takes them.
        options: what to measure and how.
        patients: who each image is of; by default each is a patient of its own.
        records: DeepLesion's, for ``options.by``.
        other: detections of another run on the same images; needs replicates.
        progress: called with (steps done, steps in all).
    """
    steps = 1 + (other is not None) + len(options.by)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, steps)

    def intervals(result: FrocResult, images: np.ndarray | slice) -> FrocIntervals | None:
        if not options.replicates:
            return None
        whose = None if patients is None else np.asarray(patients)[images]
        return bootstrap_froc(result, whose, options.replicates, seed=options.seed)

    result = froc(detections, ground_truth, *options.rules)
    own = intervals(result, slice(None))
    step()
    other_result = comparison = None
    if other is not None:
        other_result = froc(other, ground_truth, *options.rules)
        comparison = compare_froc(
            result, other_result, patients, options.replicates, seed=options.seed
        )
        step()
    groups = {}
    for by in options.by:
        found = froc_by_group(
            detections, records, by, options.convention, options.axis, *options.rules
        )
        groups[by] = {
            name: (group, intervals(group.result, group.images) if group.result else None)
            for name, group in found.items()
        }
        step()
    unit = "images" if patients is None else "patients"
    return FrocReport(options, result, own, other_result, comparison, groups, unit)


def write_curve(path: str | os.PathLike, result: FrocResult) -> None:
    """The whole curve as CSV: a row for each box by falling score."""
    with atomic_write(path) as temporary, open(temporary, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["score", "false_positives_per_image", "sensitivity"])
        curve = (result.curve_score, result.curve_fp, result.curve_sensitivity)
        writer.writerows(zip(*(values.tolist() for values in curve), strict=True))


def _numbers(result: FrocResult, intervals: FrocIntervals | None) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        "lesions": result.num_lesions,
        "sensitivity": result.sensitivity.tolist(),
        "mean_sensitivity": result.mean,
    }
    if intervals:
        numbers |= {
            "low": intervals.low.tolist(),
            "high": intervals.high.tolist(),
            "mean_low": intervals.mean_low,
            "mean_high": intervals.mean_high,
        }
    return numbers


def _line(name: str, values: np.ndarray, mean: float, form: str = "8.2f", scale: int = 100) -> str:
    cells = "".join(f"{scale * value:>{form}}" for value in values)
    return f"{name:25}{cells}{f'{scale * mean:{form}}'.strip():>12}"


def _comparison_table(other: FrocResult, compared: FrocComparison) -> str:
    name = f"{100 * compared.confidence:g} % interval"
    return "\n".join(
        [
            "This run less the other, on the same resamples",
            _line("the other's sensitivity", other.sensitivity, other.mean),
            _line("difference", compared.difference, compared.mean_difference, "+8.2f"),
            _line(f"{name} from", compared.low, compared.mean_low, "+8.2f"),
            _line(f"{name} to", compared.high, compared.mean_high, "+8.2f"),
            _line("p value", compared.p_value, compared.mean_p_value, "8.3f", 1),
        ]
    )


def _group_table(
    by: str, groups: dict[str, tuple[FrocGroup, FrocIntervals | None]], options: FrocOptions
) -> str:
    axis = f" ({options.axis} axis)" if by == "diameter" else ""
    rates = "".join(f"{rate:>8g}" for rate in options.fp_per_image)
    lines = [
        f"By {by}{axis}, convention {options.convention}",
        f"false positives per image{rates}  mean 0.5-4  lesions  images",
    ]
    for name, (group, _) in groups.items():
        values = np.full(len(options.fp_per_image), np.nan), np.nan
        if group.result:
            values = group.result.sensitivity, group.result.mean
        counts = f"{group.num_lesions:>9}{group.num_images:>8}"
        lines.append(_line(name, *values).replace("nan", "  -") + counts)
    return "\n".join(lines)
