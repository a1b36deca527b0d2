"""The lines of Tables 1 to 3 of Tao et al. 2019, measured on finished runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lesionkit.data.deeplesion import KeySlice
from lesionkit.evaluation import bootstrap_froc, froc, froc_by_group
from lesionkit.tables.measured import Difference, Measured, difference, pool, seed_margin
from lesionkit.tables.published import FP_PER_IMAGE, GROUP_MEANS, SENSITIVITY
from lesionkit.tables.variants import SLICES, Variant, variants_of

GROUPINGS = ("type", "diameter", "interval")
GROUP_FP = 4.0  # false positives per image of Table 2

# For each variant, the detections of each of its seeds: one array [n, 5] per image.
Runs = Mapping[Variant, Sequence[Sequence[np.ndarray]]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Line:
    """One variant, over all lesions or (Table 2) those of a group.

    measured: None without a run, or for a group without lesions. gain: over the same detector
    without attention; margin: what different seeds alone would make of it, see `seed_margin`.
    paper: percent at false positives per image, as far as known; source: of these.
    """

    variant: Variant
    fp_per_image: tuple[float, ...]
    measured: Measured | None
    gain: Difference | None
    margin: np.ndarray | None
    paper: Mapping[float, float]
    source: str
    grouping: str = ""
    group: str = ""


def table_lines(
    table: int,
    runs: Runs,
    records: Sequence[KeySlice],
    slices: Sequence[int] = SLICES,
    progress: Progress | None = None,
) -> list[Line]:
    """The lines of a table in the paper's order, those without a run among them.

    Args:
        runs: the detections of each variant's seeds, in the order of ``records``.
        records: the test images.
        slices: those of Table 1.
    """
    rows = variants_of(table, slices)
    if table == 2:
        return _group_lines(rows, runs, records, progress)
    measured: dict[Variant, Measured] = {}
    present = [variant for variant in rows if runs.get(variant)]
    truth = [record.boxes for record in records]
    patients = [record.patient for record in records]
    for done, variant in enumerate(present, 1):
        results = [froc(found, truth, FP_PER_IMAGE) for found in runs[variant]]
        measured[variant] = pool(results, [bootstrap_froc(r, patients) for r in results])
        if progress:
            progress(done, len(present))
    return [_line(v, FP_PER_IMAGE, measured, *SENSITIVITY.get(v, ({}, ""))) for v in rows]


def _group_lines(
    rows: Sequence[Variant],
    runs: Runs,
    records: Sequence[KeySlice],
    progress: Progress | None,
) -> list[Line]:
    patients = np.array([record.patient for record in records])
    found: dict[tuple[str, str], dict[Variant, Measured]] = {}
    present = [(by, variant) for by in GROUPINGS for variant in rows if runs.get(variant)]
    for done, (by, variant) in enumerate(present, 1):
        of_seed = [froc_by_group(d, records, by, fp_per_image=(GROUP_FP,)) for d in runs[variant]]
        for name, first in of_seed[0].items():
            measured = found.setdefault((by, name), {})
            if first.result is not None:
                results = [groups[name].result for groups in of_seed]
                who = patients[first.images]
                measured[variant] = pool(results, [bootstrap_froc(r, who) for r in results])
        if progress:
            progress(done, len(present))
    return [
        _line(variant, (GROUP_FP,), measured, {}, "", by, name)
        for (by, name), measured in found.items()
        for variant in rows
    ]


def _line(
    variant: Variant,
    fp_per_image: tuple[float, ...],
    measured: Mapping[Variant, Measured],
    paper: Mapping[float, float],
    source: str,
    grouping: str = "",
    group: str = "",
) -> Line:
    ours, baseline = measured.get(variant), measured.get(variant.baseline)
    gain = margin = None
    if ours and baseline and variant != variant.baseline:
        gain = difference(ours, baseline)
        margin = seed_margin(ours, baseline, list(measured.values()))
    return Line(variant, fp_per_image, ours, gain, margin, paper, source, grouping, group)


@dataclass(frozen=True)
class GroupMean:
    """The mean of a grouping's sensitivities, weighted by the lesions of the groups, in percent."""

    grouping: str
    variant: Variant
    ours: float | None
    paper: float | None


def group_means(lines: Sequence[Line]) -> list[GroupMean]:
    """Of Table 2's lines: what the paper's figures are known of."""
    means = []
    for by in GROUPINGS:
        for variant in dict.fromkeys(line.variant for line in lines):
            groups = [
                line.measured
                for line in lines
                if (line.grouping, line.variant) == (by, variant) and line.measured
            ]
            lesions = [group.num_lesions for group in groups]
            values = [100 * group.sensitivity[0] for group in groups]
            ours = float(np.average(values, weights=lesions)) if groups else None
            means.append(GroupMean(by, variant, ours, GROUP_MEANS.get((by, variant))))
    return means
