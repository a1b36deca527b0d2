"""The array parts of preprocessing: which slices to blend, where the body is, resizing."""

import math

import numpy as np

BODY_THRESHOLD = -768.0  # HU; the body is what lies above it
_OPENING = 7  # side, in pixels, of the block that opens the body mask and so removes the table
_SNAP = 1e-6  # slices; a wanted position this close to a slice is that slice


def slice_blends(
    count: int, wanted: float, interval: float, *, legacy: bool = False
) -> list[tuple[int, int, float]]:
    """How to make ``count`` (odd) slices ``wanted`` mm apart of slices ``interval`` mm apart.

    Returns:
        (near, far, weight) of every slice, furthest previous first. near and far are offsets from
        the key slice, near the one closer to it; the slice is (1 - weight) * near + weight * far.
        All are the key slice where ``wanted`` is 0 or ``interval`` is not positive (or NaN).

    With ``legacy`` the weight is computed once, for the first neighbour, and used for all of them,
    as in 3DCE ``rcnn/fio/load_ct_img.py``.
    """
    if not interval > 0 or wanted == 0:
        return [(0, 0, 0.0)] * count

    step = wanted / interval
    following = []
    for k in range(1, (count + 1) // 2):
        position = k * step
        if not legacy and abs(position - round(position)) < _SNAP:
            position = float(round(position))
        near, far = math.floor(position), math.ceil(position)
        weight = step - math.floor(step) if legacy else position - near
        following.append((near, far, weight if far > near else 0.0))
    previous = [(-near, -far, weight) for near, far, weight in reversed(following)]
    return [*previous, (0, 0, 0.0), *following]


def body_range(hu: np.ndarray) -> tuple[int, int, int, int]:
    """First and last row, first and last column (inclusive) of the body on one slice [H, W].

    The body is HU > -768 after binary opening with a 7 x 7 block (3DCE ``get_mask``); if nothing
    is left, the range is the whole slice.
    """
    # The opening's bounding rectangle needs no dilation: it is that of all 7 x 7 windows that are
    # full, first to last row and column. Runs of 2, 4, then 7 pixels take three ANDs an axis.
    full = hu > BODY_THRESHOLD
    for _ in range(2):
        for shift in (1, 2, 3):
            full = full[:-shift] & full[shift:]
        full = full.T
    rows, columns = np.flatnonzero(full.any(1)), np.flatnonzero(full.any(0))
    if len(rows) == 0:
        return 0, hu.shape[0] - 1, 0, hu.shape[1] - 1
    reach = _OPENING - 1
    return int(rows[0]), int(rows[-1]) + reach, int(columns[0]), int(columns[-1]) + reach


def resize(stack: np.ndarray, scale: float) -> np.ndarray:
    """Bilinear resize of planes [n, H, W] float32, as ``cv2.resize(fx=scale, fy=scale)``.

    The size becomes round(size * scale), at least 1, and the sampling uses ``scale`` itself, not
    the ratio of the sizes, so a box scaled by it stays on its pixels. No antialiasing.
    """
    height, width = (max(1, round(size * scale)) for size in stack.shape[1:])
    if (height, width) == stack.shape[1:]:  # OpenCV copies then, whatever the scale
        return stack
    # torch's upsample_bilinear2d is no substitute: it ignores the scale on an axis that keeps its
    # size, and its float32 positions are off by up to 1e-4 pixel.
    left, right, x_weight = _taps(stack.shape[2], width, scale)
    above, below, y_weight = _taps(stack.shape[1], height, scale)
    y_weight = y_weight[:, None]
    resized = np.empty((len(stack), height, width), np.float32)
    for plane, out in zip(stack, resized, strict=True):
        wide = plane.take(left, 1)
        wide += x_weight * (plane.take(right, 1) - wide)
        out[:] = wide.take(above, 0)
        out += y_weight * (wide.take(below, 0) - out)
    return resized


def _taps(size: int, new_size: int, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    position = np.clip((np.arange(new_size) + 0.5) / scale - 0.5, 0, size - 1)
    near = position.astype(np.intp)
    far = np.minimum(near + 1, size - 1)
    return near, far, (position - near).astype(np.float32)
