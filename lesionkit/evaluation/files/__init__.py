"""Boxes in files: those of this package, COCO's, CSV tables and DeepLesion's annotations.

Formats are told apart by content, never by name. In memory and in every format but two a box is
(x1, y1, x2, y2) in 0-based pixels with inclusive ends, x2 - x1 + 1 wide. COCO's is (x, y, width,
height), so x2 = x + width - 1; DL_info.csv counts pixels from 1.
"""

from lesionkit.evaluation.files.detections import FORMAT, read_detections, write_detections
from lesionkit.evaluation.files.truth import Truth, read_truth

__all__ = ["FORMAT", "Truth", "read_detections", "read_truth", "write_detections"]
