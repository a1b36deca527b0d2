"""A DICOM CT series as a volume."""

import os
import warnings
from pathlib import Path

import numpy as np

from lesionkit.data.dicom.geometry import arrange
from lesionkit.data.dicom.index import Series, find_series, slices_of
from lesionkit.data.dicom.pixels import read_hu
from lesionkit.data.volume import CTVolume, to_axial
from lesionkit.errors import InputError


def read_dicom(path: str | os.PathLike, series: str | None = None) -> CTVolume:
    """Read one CT series from a folder (with its subfolders) or from a single DICOM file.

    Slices are put in order by their position along the normal of the image plane (row direction
    x column direction), never by name. Rows and columns stay as stored; only a coronal or
    sagittal series is turned into axial slices, without loss. Values are HU = slope * stored +
    intercept with each slice's own slope and intercept, int16 where that is exact. Padding values
    are treated like all others.

    Read are CT Image Storage and Enhanced CT, also without the 128-byte preamble. In a folder,
    DICOMDIR, other modalities, screen captures and localizers are passed over, and so are files
    that are not DICOM, unless their names are those of slices: `strangers` has the rule.

    Args:
        path: folder or file. A file of CT Image Storage is one slice, and only it is read.
        series: which CT series, if there are several: its SeriesInstanceUID, the beginning or end
            of it that no other has, or its SeriesNumber.

    Raises:
        InputError: no CT, several series and no ``series``, files that are damaged, coloured, too
            large, without a needed tag or decoder, with more or fewer pixels than the header says
            or values beyond `CTVolume`'s limits; and slices that do not make a volume: of several
            patients or frames of reference, mixed sizes, orientations or pixel spacings,
            positions twice, missing or unevenly spaced slices, or slices shifted sideways (gantry
            tilt). The message names the file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of harmless deviations, file by file
        ct, others = find_series(Path(path))
        chosen = _choose(str(path), ct, others, series)
        slices, spacing, origin, direction = arrange(slices_of(chosen))
        volume = CTVolume(
            hu=read_hu(slices),
            spacing=spacing,
            origin=origin,
            direction=direction,
            source=str(path),
            slice_files=tuple(str(one.path) for one in slices),
        )
    axial = int(np.argmax(np.abs(direction[2]))) == 2
    return volume if axial else to_axial(volume)


def _choose(path: str, ct: list[Series], others: list[Series], wanted: str | None) -> Series:
    if wanted is None and len(ct) == 1:
        return ct[0]
    if wanted is None and not ct:
        if not others:
            raise InputError(f"{path}: no DICOM file in it; give the folder of one scan")
        raise InputError(f"{path}: no CT slices, only:{_listing(others)}")
    if wanted is None:
        raise InputError(f"{path}: {len(ct)} CT series; choose one with --series:{_listing(ct)}")
    for rule in (
        lambda one: one.uid == wanted,
        lambda one: one.number == wanted,
        lambda one: one.uid.startswith(wanted) or one.uid.endswith(wanted),
    ):
        matches = [one for one in ct if rule(one)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise InputError(f"{path}: --series {wanted} fits several:{_listing(matches)}")
        if refused := [one for one in others if rule(one)]:
            raise InputError(f"{path}: --series {wanted} is not CT slices:{_listing(refused)}")
    raise InputError(f"{path}: no CT series fits --series {wanted}; there are:{_listing(ct)}")


def _listing(series: list[Series]) -> str:
    return "".join(f"\n  {one}" for one in series)
