"""What was found in a scan, with all that the formats of results need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from lesionkit.data.volume import CTVolume
from lesionkit.inference.findings import Detection, Finding


@dataclass(frozen=True, eq=False)
class ScanResults:
    """The findings of one scan.

    Attributes:
        volume: the scan.
        findings: by falling score; results number them from 1.
        places: that were searched, in slices of the scan.
        about: what else the report says at its top level (the model, the thresholds).
    """

    volume: CTVolume
    findings: Sequence[Finding]
    places: Sequence[float]
    about: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def detections(self) -> list[tuple[Detection, int]]:
        """Those of all findings by falling score, numbered from 1, with their finding's number."""
        members = [
            (one, number) for number, finding in enumerate(self.findings, 1)
            for one in finding.detections
        ]  # fmt: skip
        return sorted(members, key=lambda member: (-member[0].score, member[1], member[0].place))

    @cached_property
    def place_of(self) -> dict[int, float]:
        """Each slice that is the nearest to a searched place, and the place nearest to it.

        The lower one of two places as near.
        """
        places: dict[int, list[float]] = {}
        for place in sorted(self.places):
            places.setdefault(round(place), []).append(place)
        return {
            number: min(near, key=lambda place: round(abs(place - number), 6))
            for number, near in places.items()
        }


def edges(box: Sequence[float]) -> tuple[float, float, float, float]:
    """xyxy of the outer edges of a box's pixels, whose centres are at whole numbers."""
    x1, y1, x2, y2 = box
    return x1 - 0.5, y1 - 0.5, x2 + 0.5, y2 + 0.5


def size_mm(finding: Finding, volume: CTVolume) -> tuple[float, float, float]:
    """What a finding takes along x, y and the slices, from edge to edge.

    A place stands for the millimetres to the next one.
    """
    x1, y1, x2, y2 = finding.box
    first, last = finding.places
    voxels = x2 - x1 + 1, y2 - y1 + 1, last - first + finding.step
    return tuple((np.array(voxels) * volume.spacing).tolist())


def centre_lps(finding: Finding, volume: CTVolume) -> np.ndarray:
    """LPS millimetres [3] of the middle of a finding's extent."""
    x1, y1, x2, y2 = finding.box
    first, last = finding.places
    return volume.to_lps([((x1 + x2) / 2, (y1 + y2) / 2, (first + last) / 2)])[0]
