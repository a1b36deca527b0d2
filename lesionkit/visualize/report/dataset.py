"""The page of a detector that was tested on a data set."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lesionkit.data.deeplesion import LESION_TYPES, KeySlice
from lesionkit.evaluation import plot_froc
from lesionkit.evaluation.boxes import overlap_of_pairs
from lesionkit.visualize.attention import record_attention
from lesionkit.visualize.report.options import Progress, ReportOptions
from lesionkit.visualize.report.page import (
    Box,
    Figure,
    Finding,
    Page,
    Slice,
    Table,
    precision_note,
)
from lesionkit.visualize.report.panels import attention_figures, attention_note
from lesionkit.visualize.results import DatasetRun, Run, own_window

if TYPE_CHECKING:
    from lesionkit.models import LesionDetector

_COLUMNS = ("image", "lesion", "score", "type", "size, mm")
_EDGES = ("R", "A", "L", "P")  # how DeepLesion shows its patients


def dataset_page(
    run: Run,
    found: DatasetRun,
    options: ReportOptions,
    model: "LesionDetector | None",
    progress: Progress | None = None,
) -> Page:
    """FROC, images and boxes of ``lesionkit eval`` or ``demo``; ``model`` is for attention."""
    least = found.threshold() if options.score_threshold is None else options.score_threshold
    count = min(len(found.dataset), options.slices)
    records = found.dataset[:count]
    kept = [boxes[boxes[:, 4] >= least] for boxes in found.detections[:count]]
    of_images = [
        match_image(record, boxes, found.measured.iou_threshold)
        for record, boxes in zip(records, kept, strict=True)
    ]
    rows = [
        Finding((records[place].file_name, *cells), kind, place, box)
        for place, (_, lines) in enumerate(of_images)
        for cells, kind, box in lines
    ]
    measured, results = found.measured, _results(run)
    longest = max((max(record.image_size) for record in records), default=0)
    notes = [precision_note(options.side, longest), *attention_note(options, model)]
    if count < len(found.dataset):
        notes.insert(0, f"The first {count} of {len(found.dataset)} images are here.")
    if "data" in results:
        notes.insert(0, f"Data: {results['data']}.")
    return Page(
        title=f"lesionkit {run.command}: {run.folder.name}",
        facts=[
            ("images", f"{measured.num_images}"),
            ("lesions", f"{measured.num_lesions}"),
            ("mean sensitivity at 0.5, 1, 2, 4", f"{100 * measured.mean:.1f} %"),
            ("IoU of a hit", f"at least {measured.iou_threshold:g}"),
            ("boxes shown", f"score at least {least:.3f}"),
            ("split", str(run.config["arguments"].get("split") or "test")),
        ],
        notes=notes,
        slices=_slices(found, records, of_images, progress),
        columns=_COLUMNS,
        findings=rows,
        parts=[
            _plot(run, found),
            _rates(found, results),
            *_groups(results),
            *_panels(found, records, options, model),
        ],
        settings=dict(run.config),
    )


def match_image(
    record: KeySlice, found: np.ndarray, iou_threshold: float
) -> tuple[list[Box], list[tuple]]:
    """The boxes of an image, and its rows of the findings table: cells, kind, place of the box.

    Lesions, found or missed, then boxes that are on none, by falling score.
    """
    lesions, detections = np.indices((len(record.lesions), len(found))).reshape(2, -1)
    overlap = overlap_of_pairs(found[detections, :4], record.boxes[lesions].astype(float), "iou")
    hits = (overlap >= iou_threshold).reshape(len(record.lesions), len(found))
    boxes = [Box(lesion.box, "truth") for lesion in record.lesions]
    boxes += [
        Box(tuple(row[:4]), "hit" if hit else "false", row[4])
        for row, hit in zip(found.tolist(), hits.any(0), strict=True)
    ]
    rows = []
    for place, (lesion, hit) in enumerate(zip(record.lesions, hits, strict=True)):
        best = f"{found[hit, 4].max():.3f}" if hit.any() else ""
        what = "found" if hit.any() else "missed"
        name = LESION_TYPES.get(lesion.lesion_type, "unknown")
        cells = (what, best, name, _size(lesion.box, record))
        rows.append((cells, "hit" if hit.any() else "truth", place))
    false = np.flatnonzero(~hits.any(0))
    for place in false[np.argsort(-found[false, 4], kind="stable")].tolist():
        cells = ("none", f"{found[place, 4]:.3f}", "", _size(found[place, :4], record))
        rows.append((cells, "false", len(record.lesions) + place))
    return boxes, rows


def _size(box: object, record: KeySlice) -> str:
    x1, y1, x2, y2 = box
    return f"{(x2 - x1 + 1) * record.spacing[0]:.0f} x {(y2 - y1 + 1) * record.spacing[1]:.0f}"


def _slices(
    found: DatasetRun, records: list[KeySlice], of_images: list, progress: Progress | None
) -> Iterator[Slice]:
    for done, (record, (boxes, _)) in enumerate(zip(records, of_images, strict=True), 1):
        window = own_window(record)
        yield Slice(record.file_name, found.hu(record), record.spacing[:2], boxes, _EDGES, window)
        if progress:
            progress(done, len(records))


def _results(run: Run) -> dict:
    try:
        results = json.loads((run.folder / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # only what it adds is missing then
        return {}
    return results if isinstance(results, dict) else {}


def _plot(run: Run, found: DatasetRun) -> Figure:
    rates = ", ".join(
        f"{100 * value:.1f} % at {rate:g}"
        for rate, value in zip(found.measured.fp_per_image, found.measured.sensitivity, strict=True)
    )
    text = f"FROC: sensitivity against false positives per image. {rates}."
    own = run.folder / "froc.png"
    if own.is_file():
        return Figure("FROC", f"{text} Bars are 95 % intervals.", own.read_bytes(), 720)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "froc.png")
        plot_froc(path, {run.folder.name: found.measured})
        return Figure("FROC", text, path.read_bytes(), 720)


def _rates(found: DatasetRun, results: dict) -> Table:
    measured = found.measured
    rows = [["sensitivity, %", *(f"{100 * value:.1f}" for value in measured.sensitivity)]]
    rates = measured.fp_per_image.tolist()
    if results.get("false_positives_per_image") == rates and "low" in results:
        for end, name in (("low", "95 % interval from"), ("high", "to")):
            rows.append([name, *(f"{100 * value:.1f}" for value in results[end])])
    header = ["false positives per image", *(f"{rate:g}" for rate in rates)]
    return Table("Sensitivity", header, rows)


def _groups(results: dict) -> list[Table]:
    tables = []
    for by, groups in results.get("groups", {}).items():
        rows = [
            [
                name,
                *(f"{100 * value:.1f}" for value in group.get("sensitivity", ())),
                *(["-"] * (0 if "sensitivity" in group else len(results["sensitivity"]))),
                f"{group['lesions']}",
                f"{group['images']}",
            ]
            for name, group in groups.items()
        ]
        rates = (f"{rate:g}" for rate in results["false_positives_per_image"])
        header = ["false positives per image", *rates, "lesions", "images"]
        tables.append(Table(f"Sensitivity by {by}, %", header, rows))
    return tables


def _panels(
    found: DatasetRun,
    records: list[KeySlice],
    options: ReportOptions,
    model: "LesionDetector | None",
) -> list[Figure]:
    figures = []
    for record in records[: options.attention] if model else ():
        attention = record_attention(model, found.dataset, record)
        window = options.window or own_window(record) or "soft tissue"
        figures += attention_figures(
            attention, record.lesions[0].box, window, f"first lesion of {record.file_name}"
        )
    return figures
