"""Measuring detections against ground truth."""

from lesionkit.evaluation.bootstrap import (
    FrocComparison,
    FrocIntervals,
    bootstrap_froc,
    compare_froc,
)
from lesionkit.evaluation.files import Truth, read_detections, read_truth, write_detections
from lesionkit.evaluation.froc import FrocResult, froc
from lesionkit.evaluation.groups import FrocGroup, froc_by_group
from lesionkit.evaluation.matching import DetectionStatus, match_detections
from lesionkit.evaluation.plot import plot_froc

__all__ = [
    "DetectionStatus",
    "FrocComparison",
    "FrocGroup",
    "FrocIntervals",
    "FrocResult",
    "Truth",
    "bootstrap_froc",
    "compare_froc",
    "froc",
    "froc_by_group",
    "match_detections",
    "plot_froc",
    "read_detections",
    "read_truth",
    "write_detections",
]
