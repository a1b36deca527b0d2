"""CSV: a row a finding, and a row a detection, with the numbers of the JSON report."""

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lesionkit.files import atomic_write
from lesionkit.inference.formats.report import entries
from lesionkit.inference.results import ScanResults

_BOX = ("x1", "y1", "x2", "y2")
_CENTRE = ("centre_x_lps_mm", "centre_y_lps_mm", "centre_z_lps_mm")
DETECTION_COLUMNS = (
    *("id", "finding", "slice", "place", *_BOX, "score"),
    *(*_CENTRE, "width_mm", "height_mm", "file"),
)
FINDING_COLUMNS = (
    *("id", "score", "long_axis_mm", "best_slice", "first_slice", "last_slice", "detections"),
    *(*_BOX, *_CENTRE, "width_mm", "height_mm", "depth_mm"),
)


def write(folder: str | os.PathLike, results: ScanResults) -> None:
    """Write ``findings.csv`` and ``detections.csv``."""
    findings, detections = entries(results)
    _table(
        Path(folder, "findings.csv"),
        FINDING_COLUMNS,
        (
            [
                *(one["id"], one["score"], one["long_axis_mm"]),
                *(detections[one["best"] - 1]["slice"], *one["slices"], len(one["detections"])),
                *(*one["box_px"], *one["centre_lps_mm"], *one["size_mm"]),
            ]
            for one in findings
        ),
    )
    _table(
        Path(folder, "detections.csv"),
        DETECTION_COLUMNS,
        (
            [
                *(one["id"], one["finding"], one["slice"], one["place"]),
                *(*one["box_px"], one["score"]),
                *(*one["centre_lps_mm"], *one["size_mm"], one["file"] or ""),
            ]
            for one in detections
        ),
    )


def _table(file: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with (
        atomic_write(file) as path,
        # A file name that is no text is written with escapes, as JSON does.
        open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)
