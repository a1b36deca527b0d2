"""A CT scan as one array with its place in the patient."""

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from lesionkit.errors import InputError

# 1024 x 1024 x 2048 voxels. Larger scans exist only as mistakes or as attacks on memory.
MAX_VOLUME_BYTES = 4 << 30
# Bounds what a decoder may allocate for one slice. CT matrices end at 2048.
MAX_SIDE = 8192
# What a CT can be. Beyond lie other units (metres, micrometres) and damaged headers, which a
# detector would take for a scan without findings.
PIXEL_MM = (0.01, 10.0)
SLICE_MM = (0.01, 50.0)  # from slice to slice, along the patient
MAX_HU = 1e5
MAX_POSITION_MM = 1e5


@dataclass(frozen=True, eq=False)
class CTVolume:
    """A CT volume in Hounsfield units.

    Voxel coordinates are (x, y, slice): column, row and slice index, 0-based, integers at voxel
    centres; ``hu[slice, y, x]``. Patient coordinates are DICOM's LPS millimetres: x to the
    patient's left, y to posterior, z to superior.

    Attributes:
        hu: [S, H, W] int16 or float32, Hounsfield units. Padding outside the scanner's circle is
            left as the file has it (often -2000 or less).
        spacing: millimetres between columns (x), rows (y) and slices (z).
        origin: LPS millimetres of the centre of voxel (0, 0, 0).
        direction: [3, 3] float64; its columns are the LPS unit vectors of increasing x, y and
            slice index.
        source: the path it was read from.
        first_slice: number on disk of ``hu[0]`` in a DeepLesion folder; 0 otherwise.
        slice_files: the file of each slice, where slices have files of their own.

    Raises:
        ValueError: a field of the wrong shape or type.
        InputError (a ValueError): NaN or infinite voxels, and values beyond the limits above.
    """

    hu: np.ndarray
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: np.ndarray
    source: str
    first_slice: int = 0
    slice_files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.hu.ndim != 3 or self.hu.size == 0:
            raise ValueError(f"hu must be [S, H, W] and not empty, got shape {self.hu.shape}")
        if self.hu.dtype not in (np.int16, np.float32):
            raise ValueError(f"hu must be int16 or float32, got {self.hu.dtype}")
        if len(self.spacing) != 3:
            raise ValueError(f"spacing must be three positive millimetres, got {self.spacing}")
        if len(self.origin) != 3 or not np.isfinite(self.origin).all():
            raise ValueError(f"origin must be three finite millimetres, got {self.origin}")
        direction = np.asarray(self.direction, dtype=np.float64)
        if direction.shape != (3, 3) or not is_orthonormal(direction):
            raise ValueError(f"direction must be a 3 x 3 orthonormal matrix, got {self.direction}")
        object.__setattr__(self, "direction", direction)
        check_geometry(self.source, self.spacing, self.origin, direction)
        check_hu(self.source, self.hu)
        if len(self.slice_files) not in (0, len(self.hu)):
            raise ValueError(
                f"slice_files must name each of the {len(self.hu)} slices or none, "
                f"got {len(self.slice_files)}"
            )

    def to_lps(self, points: np.ndarray) -> np.ndarray:
        """LPS millimetres [n, 3] of voxel coordinates [n, 3] (x, y, slice), fractions allowed."""
        scaled = np.asarray(points, dtype=np.float64).reshape(-1, 3) * self.spacing
        return scaled @ self.direction.T + self.origin

    def from_lps(self, points: np.ndarray) -> np.ndarray:
        """Voxel coordinates [n, 3] (x, y, slice) of LPS millimetres [n, 3]: to_lps undone."""
        offset = np.asarray(points, dtype=np.float64).reshape(-1, 3) - self.origin
        return np.linalg.solve(self.direction, offset.T).T / self.spacing


def is_orthonormal(direction: np.ndarray, tolerance: float = 1e-3) -> bool:
    """Whether the columns are unit vectors at right angles, each product within ``tolerance``."""
    return bool(np.abs(direction.T @ direction - np.eye(3)).max() <= tolerance)


def to_axial(volume: CTVolume, in_place: bool = False) -> CTVolume:
    """Permute and flip the axes so that x, y and slice run closest to left, posterior, superior.

    Lossless: voxels keep their values and their place in the patient, only their order in the
    array changes. ``slice_files`` is kept when slices stay slices. With ``in_place`` axes that are
    only flipped are so in ``volume``'s own memory, after which it must not be used: a large scan
    is not in memory twice then.
    """
    along = np.abs(volume.direction)
    axes = max(
        permutations(range(3)), key=lambda p: along[0, p[0]] + along[1, p[1]] + along[2, p[2]]
    )
    flips = [bool(volume.direction[lps, axis] < 0) for lps, axis in enumerate(axes)]
    size = volume.hu.shape[::-1]
    corner = [0, 0, 0]
    for axis, flip in zip(axes, flips, strict=True):
        corner[axis] = size[axis] - 1 if flip else 0

    if in_place and axes == (0, 1, 2):
        hu = _flip(volume.hu, *flips)
    else:
        hu = volume.hu.transpose(*(2 - axis for axis in reversed(axes)))
        hu = hu[tuple(slice(None, None, -1 if flip else 1) for flip in reversed(flips))]
    files = volume.slice_files if axes[2] == 2 else ()
    return CTVolume(
        hu=np.ascontiguousarray(hu),
        spacing=tuple(volume.spacing[axis] for axis in axes),
        origin=tuple(volume.to_lps(np.array(corner))[0].tolist()),
        direction=volume.direction[:, axes] * np.where(flips, -1.0, 1.0),
        source=volume.source,
        slice_files=files[::-1] if flips[2] else files,
    )


def _flip(hu: np.ndarray, x: bool, y: bool, z: bool) -> np.ndarray:
    """``hu`` [S, H, W] itself, turned round along some axes."""
    if x or y:
        for plane in hu:
            plane[:] = plane[:: -1 if y else 1, :: -1 if x else 1].copy()
    if z:
        for low in range(len(hu) // 2):
            hu[[low, -1 - low]] = hu[[-1 - low, low]]
    return hu


def check_volume_size(source: str, columns: int, rows: int, slices: int) -> None:
    """Refuse sizes that no CT has, from the header alone, before any pixel is read."""
    if min(columns, rows, slices) < 1 or max(columns, rows) > MAX_SIDE:
        raise InputError(
            f"{source}: {columns} x {rows} x {slices} voxels; columns and rows must be in "
            f"1..{MAX_SIDE}, slices at least 1. The header is damaged, or this is no CT"
        )
    size = columns * rows * slices * 2
    if size > MAX_VOLUME_BYTES:
        raise InputError(
            f"{source}: {columns} x {rows} x {slices} voxels take {size / 2**30:.1f} GiB; at most "
            f"{MAX_VOLUME_BYTES >> 30} GiB are read. Crop or resample the scan, or check the header"
        )


def check_geometry(
    source: str,
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    direction: np.ndarray,
) -> None:
    """Refuse spacings and positions that no CT has.

    Args:
        source: the file, for the message.
        spacing, origin, direction: as in `CTVolume`, also before `to_axial`: the limit for slices
            is that of the axis closest to the patient's.
    """
    along_patient = int(np.argmax(np.abs(direction[2])))
    for axis, value in enumerate(spacing):
        what, (least, most) = (
            ("slice spacing", SLICE_MM) if axis == along_patient else ("pixel spacing", PIXEL_MM)
        )
        if not least <= value <= most:
            raise InputError(
                f"{source}: {what} {value:g} mm; a CT has {least:g} to {most:g} mm. Its header is "
                "damaged or not in mm; correct it, or convert the scan again"
            )
    if not np.abs(origin).max() <= MAX_POSITION_MM:
        raise InputError(
            f"{source}: begins at {tuple(origin)} mm, more than {MAX_POSITION_MM:g} mm away; its "
            "header is damaged or not in mm; correct it, or convert the scan again"
        )


def check_hu(source: str, hu: np.ndarray) -> None:
    """Refuse voxels that are no Hounsfield units; ``source`` is the file, for the message."""
    if hu.dtype.kind != "f":  # int16 holds no others
        return
    lowest, highest = float(hu.min()), float(hu.max())  # NaN if any voxel is
    if not np.isfinite(lowest + highest):
        raise not_finite(source)
    if max(-lowest, highest) > MAX_HU:
        raise InputError(
            f"{source}: values from {lowest:g} to {highest:g}; Hounsfield units are within "
            f"{MAX_HU:g} of 0. Its rescaling is damaged, or it has padding of such values: write "
            "air (-1024 HU) there"
        )


def not_finite(source: str) -> InputError:
    return InputError(
        f"{source}: has NaN or infinite voxels, often padding around a resampled scan; write air "
        "(-1024 HU) there"
    )


def compact_hu(values: np.ndarray) -> np.ndarray:
    """HU of any real type as int16 where that is exact, else as float32; NaN stays NaN."""
    if values.dtype == np.int16:
        return values
    if values.size and values.min() >= -32768 and values.max() <= 32767:
        whole = values.astype(np.int16)
        if all(map(np.array_equal, whole, values)):  # part by part: one mask less in memory
            return whole
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
