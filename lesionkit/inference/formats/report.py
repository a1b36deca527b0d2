"""JSON: everything, in pixels and in patient millimetres."""

import json
import os
from pathlib import Path
from typing import Any

from lesionkit.files import atomic_write
from lesionkit.inference.findings import Detection, Finding, long_axis_mm
from lesionkit.inference.results import ScanResults, centre_lps, size_mm
from lesionkit.version import __version__

FORMAT = "lesionkit-detections-2"
CONVENTION = (
    "detections are boxes at places along the scan; a finding is a chain of them over neighbouring "
    "places, and its box is the smallest around theirs. box_px is [x1, y1, x2, y2]: 0-based "
    "columns and rows of the slice, pixel centres at whole numbers, the pixels of both ends "
    "included, so a box is x2 - x1 + 1 wide. Millimetres are DICOM patient coordinates (LPS): x to "
    "the left, y to posterior, z to superior. Corners are the places of (x1, y1), (x2, y1), "
    "(x2, y2), (x1, y2); of a finding at its first place, then at its last. place counts from 0 in "
    "the order of the scan's slices as read and may lie between two, since the scan is searched "
    "every 2 mm; slice is the nearest one. long_axis_mm is an estimate from the best box, taken to "
    "have DeepLesion's margin of 5 pixels."
)


def write(folder: str | os.PathLike, results: ScanResults) -> None:
    """Write ``detections.json``."""
    volume = results.volume
    slices, rows, columns = volume.hu.shape
    findings, detections = entries(results)
    report = {
        "format": FORMAT,
        "lesionkit": __version__,
        **results.about,
        "scan": {
            "source": volume.source,
            "slices": slices,
            "rows": rows,
            "columns": columns,
            "spacing_mm": list(volume.spacing),
            "origin_lps_mm": list(volume.origin),
            "direction_lps": volume.direction.tolist(),
        },
        "places_searched": [round(place, 4) for place in sorted(results.places)],
        "convention": CONVENTION,
        "findings": findings,
        "detections": detections,
    }
    with atomic_write(Path(folder, "detections.json")) as path:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def entries(results: ScanResults) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Plain values of the findings, and of their detections, in the order of their numbers."""
    numbers = {id(one): number for number, (one, _) in enumerate(results.detections, 1)}
    findings = [
        _finding(number, finding, results, numbers)
        for number, finding in enumerate(results.findings, 1)
    ]
    detections = [
        _detection(number, one, finding, results)
        for number, (one, finding) in enumerate(results.detections, 1)
    ]
    return findings, detections


def _finding(
    number: int, finding: Finding, results: ScanResults, numbers: dict[int, int]
) -> dict[str, Any]:
    volume = results.volume
    x1, y1, x2, y2 = finding.box
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    places = [(x, y, place) for place in finding.places for x, y in corners]
    return {
        "id": number,
        "score": round(finding.score, 6),
        "best": numbers[id(finding.best)],
        "detections": [numbers[id(one)] for one in finding.detections],
        "slices": list(finding.slices),
        "places": [round(place, 4) for place in finding.places],
        "box_px": [round(v, 3) for v in finding.box],
        "centre_lps_mm": centre_lps(finding, volume).round(4).tolist(),
        "corners_lps_mm": volume.to_lps(places).round(4).tolist(),
        "size_mm": [round(v, 3) for v in size_mm(finding, volume)],
        "long_axis_mm": round(long_axis_mm(finding.best.box, volume.spacing[0]), 2),
    }


def _detection(number: int, one: Detection, finding: int, results: ScanResults) -> dict[str, Any]:
    volume = results.volume
    x1, y1, x2, y2 = one.box
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    points = [((x1 + x2) / 2, (y1 + y2) / 2), *corners]
    centre, *corners = volume.to_lps([(x, y, one.place) for x, y in points]).round(4).tolist()
    size = ((x2 - x1 + 1) * volume.spacing[0], (y2 - y1 + 1) * volume.spacing[1])
    return {
        "id": number,
        "finding": finding,
        "slice": one.slice,
        "place": round(one.place, 4),
        "file": volume.slice_files[one.slice] if volume.slice_files else None,
        "score": round(one.score, 6),
        "box_px": [round(v, 3) for v in one.box],
        "centre_lps_mm": centre,
        "corners_lps_mm": corners,
        "size_mm": [round(v, 3) for v in size],
    }
