"""NRRD (.nrrd, .nhdr): what SimpleITK reads from it as if nothing were wrong.

Geometry that is absent becomes 1 mm and an identity orientation, and a space other than the three
that name patient axes is taken for LPS.
"""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from lesionkit.data.images.streams import check_packed, check_raw, data_file, volume_bytes
from lesionkit.errors import InputError

if TYPE_CHECKING:
    from SimpleITK import ImageFileReader

_MOST_TEXT = 1 << 20  # bytes; no header is longer
_MILLIMETRES = ("", "mm", "millimeter", "millimeters", "millimetre", "millimetres")
_SPACES = {
    "left-posterior-superior": "lps",
    "right-anterior-superior": "ras",
    "left-anterior-superior": "las",
}
_ORIENTED = "convert the scan again, or write `space`, `space directions` and `space origin`"


def check(path: Path, reader: "ImageFileReader") -> None:
    """Raise InputError unless the header gives all geometry in mm and the pixels are whole."""
    fields, header_end = _fields(path)
    _check_geometry(path, fields)

    name = fields.get("data file", fields.get("datafile"))
    if name is not None and (re.match(r"LIST\b", name) or "%" in name):
        raise InputError(
            f"{path}: its pixels are in several files (data file: {name}), which is not "
            "supported; write the volume to one .nrrd"
        )
    pixels, start = (path, header_end) if name is None else (data_file(path, name), 0)
    skips = [
        key
        for key in ("line skip", "lineskip", "byte skip", "byteskip")
        if fields.get(key, "0") != "0"
    ]
    if skips:
        raise InputError(
            f"{path}: {skips[0]}: {fields[skips[0]]} is not supported; write the volume to one "
            ".nrrd"
        )
    encoding = fields.get("encoding", "").lower()
    if encoding == "raw":
        check_raw(pixels, pixels.stat().st_size - start, volume_bytes(reader))
    elif encoding in ("gzip", "gz"):
        check_packed(pixels, volume_bytes(reader), start)
    else:
        raise InputError(f"{path}: encoding {encoding!r} is not supported; store it as raw or gzip")


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """The header's fields, their names in lower case, and the byte after its blank line."""
    with open(path, "rb") as stream:
        text = stream.read(_MOST_TEXT)
    blank = re.search(rb"\n\r?\n", text)
    end = blank.end() if blank else len(text)
    fields = {}
    for line in text[:end].decode("latin-1").splitlines():
        name, colon, value = line.partition(": ")
        if colon and not line.startswith("#") and ":=" not in name:
            fields[name.strip().lower()] = value.strip()
    return fields, end


def _check_geometry(path: Path, fields: dict[str, str]) -> None:
    directions = fields.get("space directions")
    given = directions or fields.get("spacings")
    if given is None:
        raise InputError(
            f"{path}: no spacing (`space directions` is missing), so its size in mm is not known; "
            f"{_ORIENTED}"
        )
    if re.search(r"\b(none|nan)\b", given, re.IGNORECASE):
        raise InputError(f"{path}: its spacing is not known ({given}); {_ORIENTED}")
    units = re.findall(r'"(.*?)"', fields.get("space units", fields.get("units", "")))
    if wrong := [unit for unit in units if unit.lower() not in _MILLIMETRES]:
        raise InputError(f"{path}: its spacing is in {wrong[0]}; {_ORIENTED}, in mm")
    space = fields.get("space", "")
    if space.lower() not in (*_SPACES, *_SPACES.values()):
        raise InputError(
            f"{path}: no orientation (`space: {space}` names no patient axes), so left and right "
            f"are not known; {_ORIENTED}, with one of {', '.join(_SPACES)}"
        )
    for key, count in (("space directions", 9), ("space origin", 3)):
        text = fields.get(key, "")
        if not _are_finite(re.split(r"[\s(),]+", text.strip("() ")), count):
            raise InputError(
                f"{path}: no orientation or position (`{key}: {text}` must be {count} numbers); "
                f"{_ORIENTED}"
            )


def _are_finite(words: list[str], count: int) -> bool:
    try:
        return len(words) == count and all(math.isfinite(float(word)) for word in words)
    except ValueError:
        return False
