"""Tables as Markdown and CSV."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from lesionkit.tables.lines import GROUPINGS, Line, group_means
from lesionkit.tables.published import RUN_TO_RUN, SENSITIVITY
from lesionkit.tables.variants import Variant

TITLES = {
    1: "Table 1: number of slices",
    2: "Table 2: lesion type, long diameter and slice interval, at 4 false positives per image",
    3: "Table 3: attention modules",
}
GROUPING_NAMES = {"type": "type", "diameter": "long diameter", "interval": "slice interval"}
NONE = "-"
MEAN = "mean of 0.5 to 4"
CSV_COLUMNS = (
    *("table", "detector", "slices", "contextual", "spatial", "grouping", "group"),
    *("fp_per_image", "images", "lesions", "seeds", "sensitivity", "low", "high"),
    *("of_seed", "gain", "gain_low", "gain_high", "gain_seed_margin", "paper", "paper_source"),
)


def to_markdown(table: int, lines: Sequence[Line], note: str = "") -> str:
    """A table as Markdown: title, ``note``, how to read it, the table, and below it the gains."""
    body = _groups(lines) if table == 2 else _rates(lines)
    return "\n\n".join(part for part in (f"# {TITLES[table]}", note, body) if part)


def to_csv(table: int, lines: Sequence[Line]) -> str:
    """Every figure of a table, in percent, one sensitivity a row; "mean" is that of 0.5 to 4."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for line in lines:
        for column, rate in enumerate((*line.fp_per_image, "mean")):
            if rate != "mean" or line.measured or not line.paper:
                writer.writerow({"table": table, **_row(line, column, rate)})
    return text.getvalue()


def _row(line: Line, column: int, rate: float | str) -> dict[str, object]:
    row: dict[str, object] = {
        "detector": line.variant.name,
        "slices": line.variant.slices,
        "contextual": line.variant.contextual,
        "spatial": line.variant.spatial,
        "grouping": line.grouping,
        "group": line.group,
        "fp_per_image": rate if isinstance(rate, str) else f"{rate:g}",
    }
    if line.measured:
        low, high = line.measured.interval[:, column]
        row |= {
            "images": line.measured.num_images,
            "lesions": line.measured.num_lesions,
            "seeds": len(line.measured.of_seed),
            "sensitivity": _percent(line.measured.sensitivity[column]),
            "low": _percent(low),
            "high": _percent(high),
            "of_seed": " ".join(_percent(value) for value in line.measured.of_seed[:, column]),
        }
    if line.gain:
        row |= {
            "gain": _percent(line.gain.value[column]),
            "gain_low": _percent(line.gain.low[column]),
            "gain_high": _percent(line.gain.high[column]),
        }
        if np.isfinite(line.margin[column]):
            row["gain_seed_margin"] = _percent(line.margin[column])
    if rate in line.paper:
        row |= {"paper": line.paper[rate], "paper_source": line.source}
    return row


def _rates(lines: Sequence[Line]) -> str:
    """Tables 1 and 3: a column per rate."""
    head = ["detector", "slices", "seeds", *(f"{r:g}" for r in lines[0].fp_per_image), MEAN]
    rows, gains = [], []
    for line in lines:
        name = [line.variant.name, str(line.variant.slices)]
        paper = [f"*{line.paper[r]:.1f}*" if r in line.paper else NONE for r in line.fp_per_image]
        if line.measured:
            rows.append([*name, str(len(line.measured.of_seed)), *_with_interval(line)])
        else:
            rows.append([*name, NONE, *[NONE] * (len(paper) + 1)])
        if line.paper:
            rows.append([f"*{line.source}*", "", "", *paper, NONE])
        if line.gain:
            gains.append([*name, "patients", *_gain(line)])
            if np.isfinite(line.margin).all():
                margins = [f"± {100 * value:.1f}" for value in line.margin]
                gains.append(["", "", "seeds", *margins])
            gains += _paper_gain(line)
    text = _how_to_read(lines) + _markdown(head, rows)
    if gains:
        head[2] = "interval over"
        text += (
            "\n## Gain over the same detector without attention, in points\n\n"
            "Paired: every resample draws the same patients for both. Of seeds, 95 % intervals by "
            "Student's t with the variance that all rows have in common.\n\n"
        ) + _markdown(head, gains)
    sources = "Figures of the paper that are not shown were not at hand."
    return f"{text}\n{sources} {RUN_TO_RUN}\n"


def _paper_gain(line: Line) -> list[list[str]]:
    baseline, source = SENSITIVITY.get(line.variant.baseline, ({}, ""))
    known = [rate for rate in line.fp_per_image if rate in line.paper and rate in baseline]
    if not known:
        return []
    cells = [
        f"*{line.paper[rate] - baseline[rate]:+.1f}*" if rate in known else NONE
        for rate in line.fp_per_image
    ]
    return [[f"*{source}*", "", "", *cells, NONE]]


def _groups(lines: Sequence[Line]) -> str:
    """Table 2: a row per group, a column per variant."""
    if not lines:
        return "There is no run for it.\n"
    variants = list(dict.fromkeys(line.variant for line in lines))
    cells: dict[tuple[str, str], dict[Variant, Line]] = {}
    for line in lines:
        cells.setdefault((line.grouping, line.group), {})[line.variant] = line
    head = ["", "group", "lesions", *(v.name for v in variants), "gain", "gain, seeds"]
    means, rows = group_means(lines), []
    for by in GROUPINGS:
        for (grouping, group), of in cells.items():
            if grouping == by:
                rows.append([GROUPING_NAMES[by], group, *_group_cells(of, variants)])
        of_grouping = {mean.variant: mean for mean in means if mean.grouping == by}
        for label, values in (
            ("mean, by lesions", [_number(of_grouping[v].ours) for v in variants]),
            ("*paper's mean*", [f"*{_number(of_grouping[v].paper)}*" for v in variants]),
        ):
            rows.append([GROUPING_NAMES[by], label, "", *values, "", ""])
    return (
        _how_to_read(lines)
        + "Each group is a test set of its own: the images that hold a lesion of the group.\n\n"
        + _markdown(head, rows)
        + "\nThe paper's figures of single groups were not at hand, only their means.\n"
    )


def _group_cells(of: Mapping[Variant, Line], variants: Sequence[Variant]) -> list[str]:
    measured = [line.measured for line in of.values() if line.measured]
    gains = [line for line in of.values() if line.gain]
    finite = gains and np.isfinite(gains[0].margin[0])
    return [
        str(measured[0].num_lesions) if measured else "0",
        *(_with_interval(of[v])[0] if of[v].measured else NONE for v in variants),
        _gain(gains[0])[0] if gains else NONE,
        f"± {100 * gains[0].margin[0]:.1f}" if finite else NONE,
    ]


def _how_to_read(lines: Sequence[Line]) -> str:
    sizes = {
        f"on {line.measured.num_lesions} lesions in {line.measured.num_images} images "
        for line in lines
        if line.measured and not line.group
    }
    return (
        f"Sensitivity in % {''.join(sizes)}at false positives per image, mean over the seeds; in "
        "brackets the 95 % interval over resampled patients.\n\n"
    )


def _with_interval(line: Line) -> list[str]:
    ends = line.measured.interval.T
    return [
        f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"
        for value, (low, high) in zip(line.measured.sensitivity, ends, strict=True)
    ]


def _gain(line: Line) -> list[str]:
    gain = line.gain
    return [
        f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        for value, low, high in zip(gain.value, gain.low, gain.high, strict=True)
    ]


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"
