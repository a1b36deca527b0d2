"""3D Slicer: a box (markups ROI) for each finding."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from lesionkit.files import atomic_write
from lesionkit.inference.findings import Finding, long_axis_mm
from lesionkit.inference.results import ScanResults, centre_lps, size_mm

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/"
    "Schema/markups-schema-v1.0.3.json#"
)


def write(folder: str | os.PathLike, results: ScanResults) -> None:
    """Write ``findings.mrk.json``: boxes along the scan's own axes, in LPS mm, edge to edge."""
    markups = [_roi(number, finding, results) for number, finding in enumerate(results.findings, 1)]
    with atomic_write(Path(folder, "findings.mrk.json")) as path:
        text = json.dumps({"@schema": SCHEMA, "markups": markups}, indent=1)
        path.write_text(text + "\n", encoding="utf-8")


def _roi(number: int, finding: Finding, results: ScanResults) -> dict[str, Any]:
    volume = results.volume
    centre = centre_lps(finding, volume).round(4).tolist()
    axes = volume.direction.copy()
    if np.linalg.det(axes) < 0:  # Slicer wants a rotation; a box is the same either way round
        axes[:, 2] *= -1
    orientation = axes.ravel().tolist()  # row by row; the columns are the box's axes
    length = long_axis_mm(finding.best.box, volume.spacing[0])
    name = f"finding {number}"
    description = f"score {finding.score:.3f}, long axis about {length:.0f} mm"
    point = {
        "id": "1",
        "label": name,
        "description": description,
        "associatedNodeID": "",
        "position": centre,
        "orientation": orientation,
        "selected": True,
        "locked": False,
        "visibility": True,
        "positionStatus": "defined",
    }
    return {
        "type": "ROI",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "name": name,
        "locked": False,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N",
        "roiType": "Box",
        "center": centre,
        "orientation": orientation,
        "size": [round(v, 4) for v in size_mm(finding, volume)],
        "insideOut": False,
        "controlPoints": [point],
        "measurements": [],
    }
