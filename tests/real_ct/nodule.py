"""Where the nodule is."""

import numpy as np

HELD_OUT = (-117.5, -110.0)  # z in mm; the nodule is largest on the first


def slice_at(volume, z: float) -> int:
    index = volume.from_lps(np.array([[0.0, 0.0, z]]))[0, 2]
    assert abs(index - round(index)) < 1e-3
    return round(index)


def overlap(a, b) -> float:
    """IoU of two boxes with inclusive ends."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a, b
    width = min(ax2, bx2) - max(ax1, bx1) + 1
    height = min(ay2, by2) - max(ay1, by1) + 1
    shared = max(width, 0) * max(height, 0)
    areas = (ax2 - ax1 + 1) * (ay2 - ay1 + 1) + (bx2 - bx1 + 1) * (by2 - by1 + 1)
    return shared / (areas - shared)
