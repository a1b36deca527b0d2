"""Reading a CT scan, whatever its format."""

import gzip
import math
import os
import re
import tempfile
import textwrap
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lesionkit.data.deeplesion.slices import read_deeplesion, slice_numbers
from lesionkit.data.dicom import read_dicom
from lesionkit.data.dicom.files import is_dicom
from lesionkit.data.headers import check_spacing
from lesionkit.data.volume import (
    CTVolume,
    check_volume_size,
    compact_hu,
    is_orthonormal,
    to_axial,
)
from lesionkit.errors import InputError

if TYPE_CHECKING:
    from types import ModuleType

    from SimpleITK import ImageFileReader

# The reader is chosen by the name and no other is tried: SimpleITK has many more, some of them
# for formats that are no CT.
_IMAGE_IO = {
    ".nii": "NiftiImageIO",
    ".nii.gz": "NiftiImageIO",
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
_TWO = (".nhdr", ".mhd")  # headers, whose pixels are in another file
_STDERR = threading.Lock()  # one file descriptor for the whole process


def read_ct(path: str | os.PathLike, series: str | None = None) -> CTVolume:
    """Read a CT scan.

    - A folder with ``NNN.png`` files is a DeepLesion series: `read_deeplesion`.
    - Any other folder, and a DICOM file: `read_dicom`.
    - ``.nii``, ``.nii.gz``, ``.nrrd``, ``.nhdr``, ``.mha`` and ``.mhd`` hold a whole volume in HU.
      Their axes are permuted and flipped, without loss, so that x, y and slice run closest to
      left, posterior and superior: the way axial CT is shown and detectors are trained. Pixel
      coordinates are those of the array read here, ``to_lps`` gives the place in the patient.

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
        read_folder = read_deeplesion if slice_numbers(path) else read_dicom
        return read_folder(path, series)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if not path.is_file():
        raise InputError(f"{path}: a pipe or a device; give a file or a folder")
    suffix = _suffix(path)
    if suffix in _IMAGE_IO:
        if series is not None:
            raise InputError(f"{path}: --series {series} is for folders; this file is one volume")
        return _read_image(path, suffix)
    if is_dicom(path):
        return read_dicom(path, series)
    raise InputError(
        f"{path}: not a CT format; give a folder of DICOM or DeepLesion slices, a DICOM file, or "
        f"one of {', '.join(_IMAGE_IO)}"
    )


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def _read_image(path: Path, suffix: str) -> CTVolume:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO(_IMAGE_IO[suffix])
    reader.SetFileName(str(path))
    try:
        with _silence(sitk):
            reader.ReadImageInformation()
        _check_header(path, reader)
        if suffix.startswith(".nii"):
            _check_nifti(path, reader)
        check_spacing(path, suffix)
        with _silence(sitk):
            image = reader.Execute()
    except RuntimeError as error:
        what = (
            "the file, or the one that it names for its pixels," if suffix in _TWO else "the file"
        )
        raise InputError(
            f"{path}: cannot be read{_reason(error)}; {what} is truncated, corrupt or no {suffix}"
        ) from error
    hu = compact_hu(sitk.GetArrayFromImage(image))
    if not np.isfinite(hu).all():
        raise InputError(f"{path}: has NaN or infinite values; write air (-1024 HU) there")
    return to_axial(
        CTVolume(
            hu=hu,
            spacing=image.GetSpacing(),
            origin=image.GetOrigin(),
            direction=np.array(image.GetDirection()).reshape(3, 3),
            source=str(path),
        )
    )


@contextmanager
def _silence(sitk: "ModuleType") -> Iterator[None]:
    """Keep SimpleITK's own lines off standard error: what it has to say is raised.

    Its libraries print past its switch for warnings, hence the file descriptor. Lines of other
    threads are held back meanwhile; they are lost if the reading fails.
    """
    with _STDERR, tempfile.TemporaryFile() as printed:
        warned = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            saved = os.dup(2)
        except OSError:  # closed: nothing to keep clean
            saved = None
        else:
            os.dup2(printed.fileno(), 2)
        try:
            yield
        finally:
            sitk.ProcessObject.SetGlobalWarningDisplay(warned)
            if saved is not None:
                os.dup2(saved, 2)
                os.close(saved)
        if saved is not None and printed.seek(0, os.SEEK_END):
            printed.seek(0)
            os.write(2, printed.read())


def _reason(error: RuntimeError) -> str:
    """What the last line of SimpleITK's message says, if anything, in brackets."""
    last = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
    if last.startswith("Reason: "):  # errno, and often of something else: "Success"
        return ""
    reason = re.sub(r"^((\w*::)?(ITK )?ERROR: )?(\w+\(0x[0-9a-f]+\): )?", "", last)
    return f" ({textwrap.shorten(reason, 200)})"


def _check_header(path: Path, reader: "ImageFileReader") -> None:
    dimension, components = reader.GetDimension(), reader.GetNumberOfComponents()
    if dimension != 3:
        remedy = (
            "store the slice as a volume of one slice, so that its thickness is known"
            if dimension < 3
            else "extract one time point or channel"
        )
        raise InputError(f"{path}: {dimension}-dimensional, a CT volume has 3 dimensions; {remedy}")
    if components != 1:
        raise InputError(
            f"{path}: {components} values a voxel (colour, vectors or complex numbers); a CT "
            "volume has one"
        )
    check_volume_size(str(path), *reader.GetSize())
    geometry = (*reader.GetSpacing(), *reader.GetOrigin(), *reader.GetDirection())
    if not all(map(math.isfinite, geometry)) or min(reader.GetSpacing()) <= 0:
        raise InputError(f"{path}: spacing {reader.GetSpacing()} or origin is not usable")
    if not is_orthonormal(np.array(reader.GetDirection()).reshape(3, 3)):
        raise InputError(
            f"{path}: its axes are not at right angles (a sheared or scaled affine); resample it "
            "to a straight grid first"
        )


def _check_nifti(path: Path, reader: "ImageFileReader") -> None:
    """Refuse what the library reads as if nothing were wrong: it makes up missing bytes."""
    if reader.GetMetaData("qform_code") == reader.GetMetaData("sform_code") == "0":
        raise InputError(
            f"{path}: no orientation (its qform_code and sform_code are 0, or it is an Analyze "
            "file), so left and right are not known; convert the scan again, or set its sform"
        )
    offset, bits = int(reader.GetMetaData("vox_offset")), int(reader.GetMetaData("bitpix"))
    if offset < 352:  # where the header and its extension mark end
        raise InputError(f"{path}: its pixels begin inside the header; the file is corrupt")
    need = offset + math.prod(reader.GetSize()) * bits // 8
    have = path.stat().st_size
    if path.name.lower().endswith(".gz"):
        have = 0
        try:
            with gzip.open(path, "rb") as stream:
                while have <= need and (piece := stream.read(1 << 20)):
                    have += len(piece)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: {error}; the file is truncated or corrupt") from error
    if have < need:
        raise InputError(f"{path}: {have} bytes of {need}; the file is truncated")
