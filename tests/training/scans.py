"""A small scan with one bright ball, and samples of it."""

import numpy as np

from lesionkit.data import CTVolume


def ball_scan(size: int = 64, slices: int = 9) -> CTVolume:
    """Soft tissue with a ball of radius 8 pixels in the middle slice, at x = 40, y = 24."""
    z, y, x = np.ogrid[:slices, :size, :size]
    hu = np.full((slices, size, size), 40, np.int16)
    hu[(x - 40) ** 2 + (y - 24) ** 2 + (4 * (z - slices // 2)) ** 2 <= 64] = 900
    return CTVolume(
        hu=hu,
        spacing=(2.0, 2.0, 4.0),
        origin=(-60.0, -70.0, 10.0),
        direction=np.eye(3),
        source="a ball",
    )


BALL_BOX = np.array([[32, 16, 48, 32]], dtype=np.float32)
