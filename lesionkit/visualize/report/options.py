"""What the user wants of a page."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ReportOptions:
    """What goes into a page.

    Attributes:
        data, scan, weights: where these are, if not where the run has had them.
        window: low and high HU shown first; by default each slice's own, or soft tissue.
        slices: the most slices. Those with the best boxes go first, then every n-th of a scan.
        side: pixels a side of a slice; larger ones are shrunk.
        score_threshold: the least score of boxes shown; by default all of a scan, and of a data
            set those down to one false positive an image.
        attention: panels of attention weights for so many lesions, if the weights are at hand.
        device: of the detector, for these.
    """

    data: Path | None = None
    scan: Path | None = None
    weights: Path | None = None
    window: tuple[float, float] | None = None
    slices: int = 200
    side: int = 384
    score_threshold: float | None = None
    attention: int = 2
    device: str = "cpu"
