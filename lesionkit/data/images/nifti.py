"""NIfTI-1 (.nii, .nii.gz): what SimpleITK reads from it as if nothing were wrong.

It makes up missing bytes, reads NaN voxels as 0 HU, and absent spacing as 1 mm. Its reader also
holds all voxels twice for a while, so that plain ones are read here.
"""

import math
import struct
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lesionkit.data.images.streams import check_raw, inflate
from lesionkit.data.volume import not_finite
from lesionkit.errors import InputError

if TYPE_CHECKING:
    from SimpleITK import ImageFileReader

_SAME_SPACING = 0.01  # relative; NIfTI keeps its geometry in float32
_FLOATS = {16: "f4", 64: "f8"}  # by the field datatype
_INT16 = 4
# The lowest three bits of xyzt_units: unknown (which always means mm), and metres, millimetres and
# micrometres, which SimpleITK turns into mm.
_UNITS = (0, 1, 2, 3)


def check(path: Path, reader: "ImageFileReader") -> None:
    """Raise InputError unless the header gives all geometry in mm and the pixels are whole."""
    pieces = _pieces(path)
    header = _header(pieces)
    if len(header) < 352:
        raise InputError(f"{path}: {len(header)} bytes of 352; the file is truncated")
    order = _byte_order(header)

    if reader.GetMetaData("qform_code") == reader.GetMetaData("sform_code") == "0":
        raise InputError(
            f"{path}: no orientation (its qform_code and sform_code are 0, or it is an Analyze "
            "file), so left and right are not known; convert the scan again, or set its sform"
        )
    unit = header[123] & 7
    if unit not in _UNITS:
        raise InputError(
            f"{path}: its geometry is in unknown units (xyzt_units has {unit}); write it in mm (2)"
        )
    _check_spacing(path, header, order)
    _check_pixels(path, reader, header, pieces, order)


def _check_spacing(path: Path, header: bytes, order: str) -> None:
    """The fields pixdim[1..3], sform_code and srow_x, srow_y, srow_z."""
    spacing = np.array(struct.unpack_from(order + "3f", header, 80), np.float64)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise InputError(
            f"{path}: its spacing is not known (pixdim {spacing.tolist()}); set pixdim to "
            "millimetres above 0, or convert the scan again"
        )
    if struct.unpack_from(order + "h", header, 254)[0] > 0:
        affine = np.array(struct.unpack_from(order + "12f", header, 280), np.float64)
        steps = np.linalg.norm(affine.reshape(3, 4)[:, :3], axis=0)
        if not np.allclose(steps, spacing, rtol=_SAME_SPACING, atol=0):
            raise InputError(
                f"{path}: two spacings, {_text(spacing)} by its pixdim and {_text(steps)} by its "
                "sform; make them agree, or convert the scan again"
            )


def _check_pixels(
    path: Path,
    reader: "ImageFileReader",
    header: bytes,
    pieces: Iterator[bytes],
    order: str,
) -> None:
    offset, bits = int(reader.GetMetaData("vox_offset")), int(reader.GetMetaData("bitpix"))
    if offset < 352:  # where the header and its extension mark end
        raise InputError(f"{path}: its pixels begin inside the header; the file is corrupt")
    need = offset + math.prod(reader.GetSize()) * bits // 8
    kind = _FLOATS.get(int(reader.GetMetaData("datatype")))
    have, rest = 0, b""
    for piece in chain([header], pieces):
        if kind is not None:
            values = rest + piece[max(0, offset - have) :]
            whole = len(values) - len(values) % int(kind[1])
            if not np.isfinite(np.frombuffer(values[:whole], order + kind)).all():
                raise not_finite(str(path))
            rest = values[whole:]
        have += len(piece)
        if have > need:
            break
    check_raw(path, have, need)


def read_int16(path: Path, reader: "ImageFileReader") -> np.ndarray | None:
    """The voxels [S, H, W] of a checked file, if they are HU in int16 that need no scaling.

    With no memory beside them, unlike SimpleITK.
    """
    slope, offset = (float(reader.GetMetaData(key)) for key in ("scl_slope", "scl_inter"))
    is_plain = slope in (0, 1) and offset == 0  # by NIfTI a slope of 0 means no scaling
    if not is_plain or int(reader.GetMetaData("datatype")) != _INT16:
        return None
    pieces = _pieces(path)
    first = _header(pieces)
    if first[344:347] != b"n+1":  # pixels in another file
        return None
    values = np.empty(reader.GetSize()[::-1], _byte_order(first) + "i2")
    rest = memoryview(values).cast("B")
    skip = int(reader.GetMetaData("vox_offset"))
    for piece in chain([first], pieces):
        part = piece[skip:]
        skip = max(0, skip - len(piece))
        rest[: len(part)] = part
        rest = rest[len(part) :]
    if values.dtype != np.int16:
        values = values.byteswap(inplace=True).view(np.int16)
    return values


def _header(pieces: Iterator[bytes]) -> bytes:
    """The first pieces, up to the end of the header or more; fewer bytes if there are no more."""
    header = b""
    while len(header) < 352 and (piece := next(pieces, b"")):
        header += piece
    return header


def _byte_order(header: bytes) -> str:
    return "<" if 1 <= struct.unpack_from("<h", header, 40)[0] <= 7 else ">"  # by dim[0]


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if packed:
            yield from inflate(path)
        while not packed and (piece := stream.read(1 << 20)):
            yield piece


def _text(spacing: np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in spacing)
