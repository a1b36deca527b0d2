"""Reading a CT scan, whatever its format."""

import os
from pathlib import Path

from lesionkit.data.deeplesion.slices import read_deeplesion, slice_numbers
from lesionkit.data.dicom import read_dicom
from lesionkit.data.dicom.files import is_dicom
from lesionkit.data.dicom.index import holds_dicom
from lesionkit.data.images import SUFFIXES, read_image
from lesionkit.data.volume import CTVolume
from lesionkit.errors import InputError


def read_ct(path: str | os.PathLike, series: str | None = None) -> CTVolume:
    """Read a CT scan.

    - A folder with ``NNN.png`` files and no DICOM file is a DeepLesion series: `read_deeplesion`.
    - Any other folder, and a DICOM file: `read_dicom`.
    - ``.nii``, ``.nii.gz``, ``.nrrd``, ``.nhdr``, ``.mha`` and ``.mhd`` hold a whole volume in HU.
      Their axes are permuted and flipped, without loss, so that x, y and slice run closest to
      left, posterior and superior: the way axial CT is shown and detectors are trained. Pixel
      coordinates are those of the array read here, ``to_lps`` gives the place in the patient.

    Nothing is guessed: a scan whose spacing, orientation or position is not given, whose pixels
    are not exactly those that its header promises, or whose values or geometry no CT can have
    (NaN, 700 mm; the limits are in `volume`) is refused. Compressed pixels are checked against
    their checksum first. The pixel file that a ``.nhdr`` or ``.mhd`` names must be in its folder.

    Args:
        path: file or folder.
        series: which of several DICOM series (UID, unique part of it, or SeriesNumber), or which
            run of slices of a DeepLesion folder (``FIRST-LAST``).

    Raises:
        InputError: the scan cannot be read or is no CT volume; the message names the file.
        ModuleNotFoundError: a library of ``lesionkit[detect]`` is not installed.
    """
    path = Path(path)
    try:
        return _read(path, series)
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot be read ({error.strerror})") from error
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path}: reading it needs {error.name}; pip install 'lesionkit[detect]'",
            name=error.name,
        ) from error


def _read(path: Path, series: str | None) -> CTVolume:
    if path.is_dir():
        is_deeplesion = slice_numbers(path) and not holds_dicom(path)
        return (read_deeplesion if is_deeplesion else read_dicom)(path, series)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if not path.is_file():
        raise InputError(f"{path}: a pipe or a device; give a file or a folder")
    suffix = _suffix(path)
    if suffix in SUFFIXES:
        if series is not None:
            raise InputError(f"{path}: --series {series} is for folders; this file is one volume")
        return read_image(path, suffix)
    if is_dicom(path):
        return read_dicom(path, series)
    raise InputError(
        f"{path}: not a CT format; give a folder of DICOM or DeepLesion slices, a DICOM file, or "
        f"one of {', '.join(SUFFIXES)}"
    )


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix
