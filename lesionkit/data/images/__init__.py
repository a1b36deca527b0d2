"""CT volumes in medical image files: NIfTI, NRRD and MetaImage."""

import os
import re
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lesionkit.data.images import metaimage, nifti, nrrd
from lesionkit.data.volume import (
    CTVolume,
    check_geometry,
    check_volume_size,
    compact_hu,
    is_orthonormal,
    to_axial,
)
from lesionkit.errors import InputError

if TYPE_CHECKING:
    from types import ModuleType

    from SimpleITK import Image, ImageFileReader

# The reader is chosen by the name and no other is tried: SimpleITK has many more, some of them
# for formats that are no CT. Beside it, what it does not check itself.
_FORMATS = {
    ".nii": ("NiftiImageIO", nifti.check),
    ".nii.gz": ("NiftiImageIO", nifti.check),
    ".nrrd": ("NrrdImageIO", nrrd.check),
    ".nhdr": ("NrrdImageIO", nrrd.check),
    ".mha": ("MetaImageIO", metaimage.check),
    ".mhd": ("MetaImageIO", metaimage.check),
}
SUFFIXES = tuple(_FORMATS)
_TWO = (".nhdr", ".mhd")  # headers, whose pixels are in another file
_STDERR = threading.Lock()  # one file descriptor for the whole process
# In what SimpleITK's libraries print where they should have raised.
_FAILURE = re.compile(
    rb"fail|error|corrupt|truncat|cannot|could not|unable|not read", re.IGNORECASE
)


def read_image(path: Path, suffix: str) -> CTVolume:
    """A volume in one of the formats of `SUFFIXES`; what `read_ct` says of them."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    name, check = _FORMATS[suffix]
    reader.SetImageIO(name)
    reader.SetFileName(str(path))
    try:
        with _silence(sitk):
            reader.ReadImageInformation()
        _check_header(path, reader)
        check(path, reader)
        hu = nifti.read_int16(path, reader) if check == nifti.check else None
        if hu is None:
            with _silence(sitk):
                hu = _array(reader.Execute())
    except RuntimeError as error:
        what = (
            "the file, or the one that it names for its pixels," if suffix in _TWO else "the file"
        )
        raise InputError(
            f"{path}: cannot be read{_reason(error)}; {what} is truncated, corrupt or no {suffix}"
        ) from error
    return to_axial(
        CTVolume(
            hu=compact_hu(hu),
            spacing=reader.GetSpacing(),
            origin=reader.GetOrigin(),
            direction=np.array(reader.GetDirection()).reshape(3, 3),
            source=str(path),
        ),
        in_place=True,
    )


def _array(image: "Image") -> np.ndarray:
    """The voxels [S, H, W] of an image that nobody else has, where they are."""
    import SimpleITK as sitk

    view = sitk.GetArrayViewFromImage(image)

    class Voxels:  # keeps the image, which owns the memory
        owner = image
        __array_interface__ = {  # noqa: RUF012
            **view.__array_interface__,
            "data": (view.__array_interface__["data"][0], False),  # writable: it is ours alone
        }

    return np.asarray(Voxels())


@contextmanager
def _silence(sitk: "ModuleType") -> Iterator[None]:
    """Keep SimpleITK's own lines off standard error: what it has to say is raised.

    Its libraries print past its switch for warnings, hence the file descriptor, and some print of
    a failure and return what they have: that is raised as a RuntimeError. Lines of other threads
    are held back meanwhile; they are lost if the reading fails.
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
            lines = printed.read()
            if _FAILURE.search(lines):
                raise RuntimeError(lines.decode(errors="replace"))
            os.write(2, lines)


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
    direction = np.array(reader.GetDirection()).reshape(3, 3)
    check_geometry(str(path), reader.GetSpacing(), reader.GetOrigin(), direction)
    if not is_orthonormal(direction):
        raise InputError(
            f"{path}: its axes are not at right angles (a sheared or scaled affine); resample it "
            "to a straight grid first"
        )
