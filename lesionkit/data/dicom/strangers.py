"""Files beside DICOM slices that are no DICOM: which are passed over, which are damaged slices.

A slice cut off before the mark of DICOM looks like any other file, and at an end of the stack no
gap tells that it is missing. Hence a file that is no DICOM is an error, not passed over, if

- its name ends as DICOM files do (.dcm, .dicom, .dic, .ima; also before .gz, .part, .tmp ...), or
- its name is that of a DICOM file of the scan but for the digits, or
- it has the extension of a DICOM file in its own folder. If that is no extension, a file that is
  not empty and has no zero byte at its beginning is text, such as README, and is passed over.

All others are passed over, and so are hidden files and DICOMDIR.
"""

import re
from pathlib import Path

from lesionkit.errors import InputError

_EXTENSIONS = (".dcm", ".dicom", ".dic", ".ima")
_UNFINISHED = (".gz", ".part", ".partial", ".tmp", ".crdownload")  # after the name of the file
_MOST_PREAMBLE = 512  # bytes that tell text from a slice


def check_strangers(strangers: list[Path], slices: list[Path]) -> None:
    """Raise InputError if one of the strangers, which are no DICOM, looks like a DICOM file."""
    shapes = {_shape(path.name) for path in slices}
    extensions = {(path.parent, _extension(path.name)) for path in slices}
    for path in strangers:
        name = path.name.lower()
        if name.startswith(".") or name == "dicomdir":
            continue
        for ending in _UNFINISHED:
            name = name.removesuffix(ending)
        extension = _extension(name)
        is_alike = (path.parent, extension) in extensions and (extension or not _is_text(path))
        if extension in _EXTENSIONS or _shape(name) in shapes or is_alike:
            raise InputError(
                f"{path}: named like a DICOM slice, but {_why(path)}; without it slices may be "
                "missing. Copy it again, or move it out of the folder if it is none"
            )


def _shape(name: str) -> str:
    return re.sub(r"\d+", "0", name.lower())


def _extension(name: str) -> str:
    """Lower case; empty if there is none. The last number of a UID is none."""
    suffix = Path(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z]\w{0,6}", suffix) else ""


def _is_text(path: Path) -> bool:
    if not path.is_file():
        return not path.is_symlink()  # neither a pipe nor a device is a slice
    with open(path, "rb") as stream:
        start = stream.read(_MOST_PREAMBLE)
    return bool(start) and b"\0" not in start


def _why(path: Path) -> str:
    if not path.exists():
        return "a link to nothing"
    if path.is_file() and path.stat().st_size == 0:
        return "empty"
    return "no readable DICOM (truncated, corrupt or packed)"
