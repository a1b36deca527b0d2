"""Measuring detections against ground truth."""

from lesionkit.evaluation.froc import DetectionStatus, FrocResult, froc, match_detections

__all__ = ["DetectionStatus", "FrocResult", "froc", "match_detections"]
