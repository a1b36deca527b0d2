"""MetaImage (.mha, .mhd): what SimpleITK reads from it as if nothing were wrong.

Missing or unreadable geometry becomes 1 mm and an identity orientation, a damaged zlib stream
becomes wrong voxels with a line on standard error, and units and intensity scales are passed over.
AnatomicalOrientation and CenterOfRotation place nothing: SimpleITK does not use them, nor do we.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lesionkit.data.images.streams import check_packed, check_raw, data_file, volume_bytes
from lesionkit.errors import InputError

if TYPE_CHECKING:
    from SimpleITK import ImageFileReader

_MOST_TEXT = 1 << 20  # bytes; no header is longer
_SPACING = ("ElementSpacing", "ElementSize")
_MATRIX = ("TransformMatrix", "Rotation", "Orientation")
_OFFSET = ("Offset", "Position", "Origin")


def check(path: Path, reader: "ImageFileReader") -> None:
    """Raise InputError unless the header gives all geometry in mm and the pixels are whole."""
    fields, header_end = _fields(path)
    _check_geometry(path, fields, reader)
    _check_values(path, fields)

    name = fields["ElementDataFile"]
    if name.startswith("LIST") or "%" in name:
        raise InputError(
            f"{path}: its pixels are in several files (ElementDataFile = {name}), which is not "
            "supported; write the volume to one .mha"
        )
    is_local = name in ("LOCAL", "Local", "local")
    pixels, start = (path, header_end) if is_local else (data_file(path, name), 0)
    skip, need = _integer(path, fields, "HeaderSize", 0), volume_bytes(reader)
    if _is_true(fields.get("CompressedData", "False")):
        if skip != 0:
            raise InputError(
                f"{path}: HeaderSize = {skip} with compressed pixels is not supported; store it "
                "without compression"
            )
        length = _integer(path, fields, "CompressedDataSize", 0) or None
        check_packed(pixels, need, start, length)
    elif skip == -1:  # the pixels are the last bytes of the file
        check_raw(pixels, min(pixels.stat().st_size - start, need), need)
    else:
        check_raw(pixels, pixels.stat().st_size - (skip or start), need)


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """The header's fields, and the byte after ElementDataFile, its last line."""
    with open(path, "rb") as stream:
        text = stream.read(_MOST_TEXT)
    fields: dict[str, str] = {}
    end = 0
    while "ElementDataFile" not in fields:
        line, newline, _ = text[end:].partition(b"\n") if end < len(text) else (b"", b"", b"")
        if not newline:
            raise InputError(f"{path}: no ElementDataFile in its header; the file is corrupt")
        end += len(line) + 1
        at = min((i for i in (line.find(b"="), line.find(b":")) if i >= 0), default=None)
        if at is None:
            continue
        key, value = (part.decode("latin-1").strip() for part in (line[:at], line[at + 1 :]))
        if key in fields:
            raise InputError(f"{path}: its header has {key} twice; keep the right one")
        fields[key] = value
    return fields, end


def _check_geometry(path: Path, fields: dict[str, str], reader: "ImageFileReader") -> None:
    spacing = _numbers(path, fields, _SPACING, 3, "spacing", "so its size in mm is not known")
    _numbers(path, fields, _MATRIX, 9, "orientation", "so left and right are not known")
    origin = _numbers(path, fields, _OFFSET, 3, "position", "so its place in mm is not known")
    for what, ours, its in (
        ("spacing", spacing, reader.GetSpacing()),
        ("position", origin, reader.GetOrigin()),
    ):
        if not np.allclose(ours, its, rtol=1e-6, atol=1e-6):
            raise InputError(
                f"{path}: its {what} reads as {list(its)}, its header says {ours}; the header is "
                "corrupt"
            )
    unit = fields.get("DistanceUnits", "mm")
    if unit.lower() not in ("mm", "?", ""):
        raise InputError(
            f"{path}: DistanceUnits = {unit}; write its geometry in mm and set DistanceUnits = mm"
        )


def _check_values(path: Path, fields: dict[str, str]) -> None:
    if not _is_true(fields.get("BinaryData", "True")):
        raise InputError(f"{path}: its pixels are text (BinaryData = False); store them as binary")
    for key, neutral in (
        ("ElementToIntensityFunctionSlope", 1.0),
        ("ElementToIntensityFunctionOffset", 0.0),
    ):
        if key in fields and fields[key] != "" and _float(fields[key]) != neutral:
            raise InputError(
                f"{path}: {key} = {fields[key]}, which readers pass over; store Hounsfield units "
                f"themselves, and {key} = {neutral:g}"
            )


def _numbers(
    path: Path, fields: dict[str, str], keys: tuple[str, ...], count: int, what: str, so: str
) -> list[float]:
    given = [key for key in keys if key in fields]
    if "ElementSpacing" in given:  # the size of a voxel may differ from their spacing
        given = ["ElementSpacing"]
    remedy = f"set {keys[0]} ({count} numbers) in its header"
    if not given:
        raise InputError(f"{path}: no {what} ({keys[0]} is missing), {so}; {remedy}")
    if len(given) > 1:
        raise InputError(f"{path}: its header has {' and '.join(given)}, one too many; keep one")
    values = [_float(word) for word in fields[given[0]].split()]
    if len(values) != count or not all(map(math.isfinite, values)):
        raise InputError(f"{path}: {given[0]} = {fields[given[0]]!r}, {so}; {remedy}")
    return values


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _integer(path: Path, fields: dict[str, str], key: str, default: int) -> int:
    text = fields.get(key, str(default))
    try:
        value = int(text)
    except ValueError:
        value = -2
    if value < -1:
        raise InputError(f"{path}: {key} = {text!r} is no number of bytes; the header is corrupt")
    return value


def _is_true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")
