"""The page of one scan that was searched."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from lesionkit.data import CTVolume
from lesionkit.visualize.attention import scan_attention
from lesionkit.visualize.report.options import Progress, ReportOptions
from lesionkit.visualize.report.page import Box, Figure, Finding, Page, Slice, precision_note
from lesionkit.visualize.report.panels import attention_figures, attention_note
from lesionkit.visualize.results import Run, ScanRun

if TYPE_CHECKING:
    from lesionkit.models import LesionDetector

_COLUMNS = ("best slice", "slices", "score", "size, mm", "long axis, mm", "centre, LPS mm")


def scan_page(
    run: Run,
    found: ScanRun,
    options: ReportOptions,
    model: "LesionDetector | None",
    progress: Progress | None = None,
) -> Page:
    """Findings and slices of ``lesionkit detect``; ``model`` is for panels of attention."""
    volume, report = found.volume, found.report
    least = options.score_threshold or 0.0
    detections = {entry["id"]: entry for entry in report["detections"] if entry["score"] >= least}
    findings = [entry for entry in report["findings"] if entry["best"] in detections]
    best = [detections[entry["best"]] for entry in findings]
    boxes: dict[int, list[dict]] = {}
    for entry in detections.values():
        boxes.setdefault(entry["slice"], []).append(entry)
    shown = choose_slices(len(volume.hu), [entry["slice"] for entry in best], boxes, options.slices)
    place_of = {number: place for place, number in enumerate(shown)}
    rows = []
    for entry, at in zip(findings, best, strict=True):
        place = place_of.get(at["slice"])
        box = None if place is None else boxes[at["slice"]].index(at)
        rows.append(Finding(_cells(entry, at), "found", place, box))
    slices, height, width = volume.hu.shape
    x, y, z = volume.spacing
    notes = [precision_note(options.side, max(height, width)), *attention_note(options, model)]
    if len(shown) < slices:
        notes.insert(0, f"{len(shown)} of the {slices} slices are here; those with boxes first.")
    return Page(
        title=f"Findings in {volume.source}",
        facts=[
            ("findings", f"{len(findings)}"),
            ("boxes", f"{sum(map(len, boxes.values()))}"),
            ("least score", f"{max(least, report['score_threshold']):g}"),
            ("scan", f"{slices} slices, {width} x {height} pixels"),
            ("spacing", f"{x:.3g} x {y:.3g} mm, slices {z:.3g} mm apart"),
            ("weights", f"{report['model']['weights']} ({report['model']['sha256'][:12]})"),
        ],
        notes=notes,
        slices=_slices(volume, shown, boxes, progress),
        columns=_COLUMNS,
        findings=rows,
        start=next((row.slice for row in rows if row.slice is not None), len(shown) // 2),
        parts=_panels(volume, best, options, model),
        settings={"run": run.config, "model": report["model"]},
    )


def choose_slices(count: int, best: list[int], boxes: dict[int, list], most: int) -> list[int]:
    """At most ``most`` of ``count`` slices, ascending: those of the findings by falling score, then
    others with boxes, then evenly spread ones.
    """
    if count <= most:
        return list(range(count))
    spread = np.linspace(0, count - 1, most).round().astype(int).tolist()
    return sorted(list(dict.fromkeys([*best, *sorted(boxes), *spread]))[:most])


def edge_letters(direction: np.ndarray) -> tuple[str, str, str, str]:
    """The patient's sides (L, R, A, P, H, F) at the left, top, right and bottom of a slice.

    Of an oblique slice the side that is nearest.
    """

    def side(vector: np.ndarray) -> str:
        axis = int(np.abs(vector).argmax())
        return ("LR", "PA", "HF")[axis][int(vector[axis] < 0)]

    x, y = direction[:, 0], direction[:, 1]
    return side(-x), side(-y), side(x), side(y)


def _cells(finding: dict, best: dict) -> list[str]:
    first, last = finding["slices"]
    return [
        f"{best['slice']}",
        f"{first} to {last}" if last > first else f"{first}",
        f"{finding['score']:.3f}",
        " x ".join(f"{value:.0f}" for value in finding["size_mm"]),
        f"{finding['long_axis_mm']:.0f}",
        ", ".join(f"{value:.0f}" for value in finding["centre_lps_mm"]),
    ]


def _slices(
    volume: CTVolume, shown: list[int], boxes: dict[int, list[dict]], progress: Progress | None
) -> Iterator[Slice]:
    edges = edge_letters(volume.direction)
    middle = (volume.hu.shape[2] - 1) / 2, (volume.hu.shape[1] - 1) / 2
    for done, number in enumerate(shown, 1):
        z = volume.to_lps([(*middle, number)])[0, 2]
        yield Slice(
            name=f"slice {number}, z {z:.1f} mm",
            hu=volume.hu[number],
            spacing=volume.spacing[:2],
            boxes=[
                Box(tuple(entry["box_px"]), "found", entry["score"])
                for entry in boxes.get(number, ())
            ],
            edges=edges,
        )
        if progress:
            progress(done, len(shown))


def _panels(
    volume: CTVolume, best: list[dict], options: ReportOptions, model: "LesionDetector | None"
) -> list[Figure]:
    figures = []
    for number, entry in enumerate(best[: options.attention] if model else (), 1):
        attention = scan_attention(model, volume, entry["slice"])
        name = f"finding {number}, slice {entry['slice']}"
        window = options.window or "soft tissue"
        figures += attention_figures(attention, entry["box_px"], window, name)
    return figures
