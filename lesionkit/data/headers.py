"""What SimpleITK makes up: geometry that the header of an image file does not give.

It reads a missing, zero or NaN spacing as 1 mm. A detector works in millimetres, so that would be
a wrong scan without a word; here the header's own text and bytes are looked at.
"""

import gzip
import re
import struct
from pathlib import Path

import numpy as np

from lesionkit.errors import InputError

_MOST_TEXT = 1 << 20  # bytes; no text header is longer
_MILLIMETRES = ("", "mm", "millimeter", "millimeters", "millimetre", "millimetres")
_SAME_SPACING = 0.01  # relative; NIfTI keeps its geometry in float32


def check_spacing(path: Path, suffix: str) -> None:
    """Raise InputError unless a file that SimpleITK accepts says how large its voxels are."""
    check = {".nii": _nifti, ".nii.gz": _nifti, ".nrrd": _nrrd, ".nhdr": _nrrd}.get(suffix, _meta)
    check(path)


def _meta(path: Path) -> None:
    head, _, _ = _start(path).partition(b"ElementDataFile")  # the last key; pixels may follow
    keys = {line.partition(b"=")[0].strip() for line in head.splitlines()}
    if not keys & {b"ElementSpacing", b"ElementSize"}:
        raise _no_spacing(path, "ElementSpacing", "set ElementSpacing = X Y Z in its header")


def _nrrd(path: Path) -> None:
    head = re.split(rb"\r?\n\r?\n", _start(path), maxsplit=1)[0].decode("latin-1")
    fields = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
    values = fields.get("space directions", fields.get("spacings"))
    remedy = "set `space directions` (or `spacings`) of all three axes in its header"
    if values is None:
        raise _no_spacing(path, "`space directions` or `spacings`", remedy)
    units = re.findall(r'"(.*?)"', fields.get("space units", fields.get("units", "")))
    if wrong := [unit for unit in units if unit.lower() not in _MILLIMETRES]:
        raise InputError(f"{path}: its spacing is in {wrong[0]}; {remedy}, in mm")
    if re.search(r"\b(none|nan)\b", values, re.IGNORECASE):
        raise InputError(f"{path}: its spacing is not known ({values.strip()}); {remedy}")


def _nifti(path: Path) -> None:
    """The fields pixdim[1..3], sform_code and srow_x, srow_y, srow_z of NIfTI-1."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as stream:
        header = stream.read(348)
    order = "<" if 1 <= struct.unpack_from("<h", header, 40)[0] <= 7 else ">"  # by dim[0]
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
                f"{path}: two spacings, {_text(spacing)} mm by its pixdim and {_text(steps)} mm by "
                "its sform; make them agree, or convert the scan again"
            )


def _text(spacing: np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in spacing)


def _start(path: Path) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(_MOST_TEXT)


def _no_spacing(path: Path, key: str, remedy: str) -> InputError:
    return InputError(
        f"{path}: no spacing ({key} is missing), so its size in mm is not known; {remedy}"
    )
