"""From single CT slices to one regular stack of them, or a clear refusal."""

import math
from itertools import pairwise

import numpy as np

from lesionkit.data.dicom.files import IDENTITY, Slice
from lesionkit.errors import InputError

# Files round positions to a few digits, hence tolerances. A slice may lie this share of the
# interval off the regular grid that the volume assumes ...
GRID_TOLERANCE = 0.1
# ... and this share of a pixel beside the line through the first slice along the normal.
SIDEWAYS_TOLERANCE = 0.5
SAME_POSITION_MM = 1e-3
SAME_DIRECTION = 1e-3
SAME_PIXEL_SPACING = 1e-3  # relative


def arrange(
    slices: list[Slice],
) -> tuple[list[Slice], tuple[float, float, float], tuple[float, float, float], np.ndarray]:
    """Put slices in order of their position along the slice normal.

    Returns the ordered slices and the spacing, origin and direction of `CTVolume`. Raises
    InputError, naming the files, unless all have one size, orientation and pixel spacing and
    their first pixels lie on one line along the normal at even intervals.
    """
    first = slices[0]
    for other in slices[1:]:
        _check_alike(first, other)
    normal = np.cross(first.along_row, first.along_column)
    heights = np.array([one.position @ normal for one in slices])
    order = np.argsort(heights, kind="stable")
    ordered, heights = [slices[i] for i in order], heights[order]

    if len(slices) == 1:
        interval = first.interval
        if math.isnan(interval):
            raise InputError(
                f"{first.path}: a single slice with neither SpacingBetweenSlices nor "
                "SliceThickness, so its thickness is not known"
            )
    else:
        _check_duplicates(ordered, heights)
        _check_sideways(ordered, normal)
        _check_gaps(ordered, heights)
        interval = float(heights[-1] - heights[0]) / (len(slices) - 1)
    direction = np.stack([first.along_row, first.along_column, normal], axis=1)
    origin = tuple(ordered[0].position.tolist())
    return ordered, (*first.spacing, interval), origin, direction


def _name(one: Slice) -> str:
    return f"{one.path}, frame {one.frame + 1}" if one.frame else str(one.path)


def _check_alike(first: Slice, other: Slice) -> None:
    def differ(what: str, a: object, b: object) -> InputError:
        return InputError(
            f"{_name(other)}: {what} {b}, but {_name(first)} of the same series has {a}; "
            "keep only the files of one stack of slices"
        )

    for keyword, one, two in zip(IDENTITY, first.identity, other.identity, strict=True):
        if one != two:  # the values are the patient's own business
            raise InputError(
                f"{_name(other)}: not the {keyword} of {_name(first)}, though of the same series; "
                "keep only the files of one scan"
            )
    if (first.rows, first.columns) != (other.rows, other.columns):
        raise differ(
            "Rows x Columns",
            f"{first.rows} x {first.columns}",
            f"{other.rows} x {other.columns}",
        )
    one, two = (
        np.r_[first.along_row, first.along_column],
        np.r_[other.along_row, other.along_column],
    )
    if np.abs(one - two).max() > SAME_DIRECTION:
        raise differ("ImageOrientationPatient", one.round(4).tolist(), two.round(4).tolist())
    if not np.allclose(first.spacing, other.spacing, rtol=SAME_PIXEL_SPACING, atol=0):
        raise differ("pixel spacing (x, y)", first.spacing, other.spacing)


def _check_duplicates(ordered: list[Slice], heights: np.ndarray) -> None:
    for (one, two), gap in zip(pairwise(ordered), np.diff(heights), strict=True):
        if gap >= SAME_POSITION_MM:
            continue
        if one.uid == two.uid and one.path != two.path:
            why = "are copies of one image; delete one"
        else:
            why = "are two images at one position (phases or reconstructions); keep one set"
        raise InputError(f"{_name(two)}: it and {_name(one)} {why}")


def _check_sideways(ordered: list[Slice], normal: np.ndarray) -> None:
    offsets = np.array([one.position - ordered[0].position for one in ordered])
    sideways = np.linalg.norm(offsets - np.outer(offsets @ normal, normal), axis=1)
    worst = int(sideways.argmax())
    if sideways[worst] > SIDEWAYS_TOLERANCE * min(ordered[0].spacing):
        angle = math.degrees(math.atan2(sideways[worst], offsets[worst] @ normal))
        raise InputError(
            f"{_name(ordered[worst])}: shifted sideways by {sideways[worst]:.2f} mm against "
            f"{_name(ordered[0])}, as with a gantry tilt of {angle:.1f} degrees; such a stack is "
            "sheared. Resample it to a straight one first (dcm2niix does)"
        )


def _check_gaps(ordered: list[Slice], heights: np.ndarray) -> None:
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    for (one, two), gap in zip(pairwise(ordered), gaps, strict=True):
        steps = round(gap / usual)
        if steps > 1 and abs(gap - steps * usual) <= GRID_TOLERANCE * usual * steps:
            raise InputError(
                f"{_name(two)}: {steps - 1} slice(s) are missing between it and {_name(one)} "
                f"({gap:.3f} mm apart, usually {usual:.3f}); add the missing files"
            )
    grid = np.linspace(heights[0], heights[-1], len(heights))
    interval = grid[1] - grid[0]
    if np.abs(heights - grid).max() > GRID_TOLERANCE * interval:
        worst = int(np.abs(gaps - usual).argmax())
        raise InputError(
            f"{_name(ordered[worst + 1])}: uneven spacing, {gaps[worst]:.3f} mm from "
            f"{_name(ordered[worst])} where {usual:.3f} mm is usual; slices may lie at most "
            f"{GRID_TOLERANCE:.0%} of the interval off an even grid. Resample the series first"
        )
