"""What was found in a scan, as JSON and CSV, in pixels and in patient millimetres."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lesionkit.data.volume import CTVolume
from lesionkit.files import atomic_write
from lesionkit.version import __version__

FORMAT = "lesionkit-detections-1"
SCORE_THRESHOLD = 0.3
MAX_FINDINGS = 100
CONVENTION = (
    "box_px is [x1, y1, x2, y2]: 0-based columns and rows of the slice, pixel centres at whole "
    "numbers, the pixels of both ends included, so a box is x2 - x1 + 1 wide. Millimetres are "
    "DICOM patient coordinates (LPS): x to the left, y to posterior, z to superior. Corners are "
    "the places of (x1, y1), (x2, y1), (x2, y2), (x1, y2). place counts from 0 in the order of "
    "the scan's slices as read and may lie between two, since the scan is searched every 2 mm; "
    "slice is the nearest one."
)


@dataclass(frozen=True)
class Finding:
    """One box at one place along the scan.

    place: in slices of the scan, may lie between two. box: xyxy in 0-based pixels, inclusive.
    score: in 0..1.
    """

    place: float
    box: tuple[float, float, float, float]
    score: float

    @property
    def slice(self) -> int:
        """The nearest slice of the scan."""
        return round(self.place)


def collect_findings(
    found: Mapping[float, Mapping[str, np.ndarray]],
    score_threshold: float = SCORE_THRESHOLD,
    max_findings: int = MAX_FINDINGS,
) -> list[Finding]:
    """The best boxes of all slices, by falling score.

    Args:
        found: place to "boxes" [n, 4] and "scores" [n], as ``detect_volume`` gives it.
        score_threshold: the least score kept.
        max_findings: the most boxes kept.

    Raises ValueError for a threshold outside 0..1 or fewer than one finding.
    """
    if not 0 <= score_threshold <= 1:
        raise ValueError(f"score_threshold must be in 0..1, got {score_threshold}")
    if max_findings < 1:
        raise ValueError(f"max_findings must be at least 1, got {max_findings}")
    findings = [
        Finding(place, tuple(box), score)
        for place, boxes in found.items()
        for box, score in zip(boxes["boxes"].tolist(), boxes["scores"].tolist(), strict=True)
        if score >= score_threshold
    ]
    return sorted(findings, key=lambda finding: -finding.score)[:max_findings]


def write_findings(
    folder: str | os.PathLike,
    volume: CTVolume,
    findings: Sequence[Finding],
    about: Mapping[str, Any],
) -> None:
    """Write ``detections.json`` and ``detections.csv``, one entry or row per finding.

    Args:
        folder: where to; files of these names are replaced.
        volume: the scan that the findings are in.
        findings: in the order to be written.
        about: what else the JSON file says at its top level (the model, the thresholds).
    """
    entries = [_entry(number, finding, volume) for number, finding in enumerate(findings, 1)]
    slices, rows, columns = volume.hu.shape
    report = {
        "format": FORMAT,
        "lesionkit": __version__,
        **about,
        "scan": {
            "source": volume.source,
            "slices": slices,
            "rows": rows,
            "columns": columns,
            "spacing_mm": list(volume.spacing),
            "origin_lps_mm": list(volume.origin),
            "direction_lps": volume.direction.tolist(),
        },
        "convention": CONVENTION,
        "findings": entries,
    }
    with atomic_write(Path(folder, "detections.json")) as path:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    with (
        atomic_write(Path(folder, "detections.csv")) as path,
        # A file name that is no text is written with escapes, as JSON does.
        open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(_CSV_COLUMNS)
        for entry in entries:
            x1, y1, x2, y2 = entry["box_px"]
            centre, size = entry["centre_lps_mm"], entry["size_mm"]
            where = entry["id"], entry["slice"], entry["place"]
            score, file = entry["score"], entry["file"] or ""
            writer.writerow([*where, x1, y1, x2, y2, score, *centre, *size, file])


_CSV_COLUMNS = (
    *("id", "slice", "place", "x1", "y1", "x2", "y2", "score"),
    *("centre_x_lps_mm", "centre_y_lps_mm", "centre_z_lps_mm"),
    *("width_mm", "height_mm", "file"),
)


def _entry(number: int, finding: Finding, volume: CTVolume) -> dict[str, Any]:
    x1, y1, x2, y2 = finding.box
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    points = [((x1 + x2) / 2, (y1 + y2) / 2), *corners]
    centre, *corners = volume.to_lps([(x, y, finding.place) for x, y in points]).round(4).tolist()
    size = ((x2 - x1 + 1) * volume.spacing[0], (y2 - y1 + 1) * volume.spacing[1])
    return {
        "id": number,
        "slice": finding.slice,
        "place": round(finding.place, 4),
        "file": volume.slice_files[finding.slice] if volume.slice_files else None,
        "score": round(finding.score, 6),
        "box_px": [round(v, 3) for v in finding.box],
        "centre_lps_mm": centre,
        "corners_lps_mm": corners,
        "size_mm": [round(v, 3) for v in size],
    }
