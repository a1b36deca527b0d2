"""Scans in which every mistake of geometry shows, and findings in them."""

import numpy as np
from scipy.spatial.transform import Rotation

from lesionkit.data import CTVolume
from lesionkit.inference import Detection, ScanResults, merge_detections

# x, y and slice directions in LPS.
DIRECTIONS = {
    "axial": np.eye(3),
    "feet first, prone": np.diag([-1.0, -1.0, 1.0]),
    "from head to feet": np.diag([1.0, -1.0, -1.0]),
    "tilted": Rotation.from_euler("xyz", [17, -8, 5], degrees=True).as_matrix(),
}


def scan(direction=DIRECTIONS["tilted"], slices=9, interval=2.5, files=(), hu=None) -> CTVolume:
    """40 rows of 60 columns, each axis of another size, off the origin."""
    return CTVolume(
        hu=np.zeros((slices, 40, 60), np.int16) if hu is None else hu,
        spacing=(0.7, 0.7, interval),
        origin=(-31.0, 52.0, 217.0),
        direction=direction,
        source="scan",
        slice_files=tuple(map(str, files)),
    )


def results(volume: CTVolume, step: float | None = None, about=None) -> ScanResults:
    """Two findings: over three places from a quarter of the scan on, and at the last place.

    Places are ``step`` slices apart, by default what 2 mm are.
    """
    step = step or 2.0 / volume.spacing[2]
    last = len(volume.hu) - 1
    places = [step * i for i in range(int(last / step + 1e-6) + 1)]
    start = len(places) // 4
    found = [
        Detection(place, (20.25 + i, 5.5, 44.0, 16.5 + i), 0.9 - 0.1 * i)
        for i, place in enumerate(places[start : start + 3])
    ]
    found.append(Detection(places[-1], (3.0, 22.0, 10.0, 35.0), 0.4))
    return ScanResults(volume, merge_detections(found, step), places, about or {})
