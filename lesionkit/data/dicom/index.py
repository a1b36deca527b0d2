"""Which DICOM files make which series, from their headers alone."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lesionkit.data.dicom.files import (
    DEFLATED,
    IDENTITY,
    DicomFile,
    Slice,
    damaged,
    is_dicom,
    need,
    read_header,
)
from lesionkit.data.dicom.pixels import check_coding
from lesionkit.data.dicom.strangers import check_strangers
from lesionkit.data.volume import PIXEL_MM, check_volume_size
from lesionkit.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")

# A folder with more is a mistake, such as a home folder, and no study.
MAX_FILES = 200_000
# Scanners write 1; volumes that were stored again as 16 bits need fractions.
SLOPES = (1e-4, 1e3)


@dataclass
class Series:
    """The files of one SeriesInstanceUID and one kind. The kind of CT slices is empty."""

    uid: str
    number: str
    description: str
    kind: str
    files: list[DicomFile] = field(default_factory=list)
    images: int = 0

    def __str__(self) -> str:
        what = f"{self.kind}, {self.images} images" if self.kind else f"{self.images} slices"
        return (
            f"{self.uid}  (number {self.number or '-'}, {self.description or 'no description'}, "
            f"{what}, such as {self.files[0].path})"
        )


def find_series(path: Path) -> tuple[list[Series], list[Series]]:
    """The CT series, and all other series, in a folder and its subfolders or in one file."""
    found: dict[tuple[str, str], Series] = {}
    slices, strangers = [], []
    for name in [path] if path.is_file() else _walk(path):
        if not is_dicom(name):
            strangers.append(name)
            continue
        file = read_header(name)
        if file is None:
            continue
        slices.append(name)
        header = file.header
        with damaged(name):
            kind = _kind(name, header)
            uid = str(need(header, "SeriesInstanceUID", name))
            number = str(header.get("SeriesNumber") or "")
            description = str(header.get("SeriesDescription") or "").strip()
            images = max(1, int(header.get("NumberOfFrames") or 1))
        series = found.setdefault((uid, kind), Series(uid, number, description, kind))
        series.files.append(file)
        series.images += images
    check_strangers(strangers, slices)
    ordered = [found[key] for key in sorted(found)]
    return [one for one in ordered if not one.kind], [one for one in ordered if one.kind]


def holds_dicom(folder: Path) -> bool:
    """Whether a DICOM file is in a folder or its subfolders; files named .png are not opened."""
    return any(path.suffix.lower() != ".png" and is_dicom(path) for path in _walk(folder))


def slices_of(series: Series) -> list[Slice]:
    """The slices of a CT series; sizes and pixel coding are checked before any pixel is read."""
    slices = []
    for file in series.files:
        path, header = file.path, file.header
        with damaged(path):
            rows, columns = int(need(header, "Rows", path)), int(need(header, "Columns", path))
            frames = int(header.get("NumberOfFrames") or 1)
            check_volume_size(str(path), columns, rows, max(frames, series.images))
            enhanced = header.SOPClassUID in ENHANCED_CT
            if frames != 1 and not enhanced:
                raise InputError(f"{path}: {frames} frames; a CT Image Storage file has one")
            check_coding(file, frames)
            if enhanced:
                slices += _enhanced_slices(file, frames)
            else:
                slices.append(_slice(file, 0, header, header, header, header))
    return slices


def _walk(folder: Path) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        raise error  # os.walk would pass over the folder, and its slices

    count = 0
    for parent, folders, names in os.walk(folder, onerror=unreadable):
        folders.sort()
        count += len(names)
        if count > MAX_FILES:
            raise InputError(f"{folder}: more than {MAX_FILES} files; give the folder of one study")
        yield from (Path(parent, name) for name in sorted(names))


def _kind(path: Path, header: "Dataset") -> str:
    """Empty for CT slices, else what the file is instead."""
    sop_class = need(header, "SOPClassUID", path)
    if sop_class != CT_IMAGE and sop_class not in ENHANCED_CT:
        return f"{header.get('Modality') or 'no modality'} as {sop_class.name}"
    modality = need(header, "Modality", path)
    if modality != "CT":
        return f"{modality}"
    image_type = header.get("ImageType") or ()
    values = [image_type] if isinstance(image_type, str) else image_type
    return "CT localizer" if "LOCALIZER" in (value.strip().upper() for value in values) else ""


def _enhanced_slices(file: DicomFile, frames: int) -> list[Slice]:
    path, header = file.path, file.header
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    each = need(header, "PerFrameFunctionalGroupsSequence", path)
    if len(each) != frames:
        raise InputError(f"{path}: {frames} frames, but functional groups for {len(each)}")

    def group(frame: int, name: str) -> "Dataset":
        items = each[frame].get(name) or shared.get(name)
        if not items:
            raise InputError(f"{path}: frame {frame + 1} lacks the DICOM sequence {name}")
        return items[0]

    return [
        _slice(
            file,
            frame,
            position=group(frame, "PlanePositionSequence"),
            orientation=group(frame, "PlaneOrientationSequence"),
            measures=group(frame, "PixelMeasuresSequence"),
            rescale=group(frame, "PixelValueTransformationSequence"),
        )
        for frame in range(frames)
    ]


def _slice(
    file: DicomFile,
    frame: int,
    position: "Dataset",
    orientation: "Dataset",
    measures: "Dataset",
    rescale: "Dataset",
) -> Slice:
    """A slice from the data sets that hold each part: the header itself, or functional groups."""
    path, header = file.path, file.header
    directions = _numbers(path, orientation, "ImageOrientationPatient", 6).reshape(2, 3)
    if np.abs(directions @ directions.T - np.eye(2)).max() > 0.01:
        raise InputError(
            f"{path}: ImageOrientationPatient {directions.ravel().tolist()} must be two unit "
            "vectors at a right angle"
        )
    along_row = directions[0] / np.linalg.norm(directions[0])
    along_column = directions[1] - (directions[1] @ along_row) * along_row
    spacing_y, spacing_x = _numbers(path, measures, "PixelSpacing", 2).tolist()
    least, most = PIXEL_MM
    if not least <= min(spacing_x, spacing_y) <= max(spacing_x, spacing_y) <= most:
        raise InputError(
            f"{path}: PixelSpacing {spacing_y:g}, {spacing_x:g}; a CT has {least:g} to {most:g} "
            "mm. Its header is damaged; copy or export the file again"
        )
    slope = float(_numbers(path, rescale, "RescaleSlope", 1)[0])
    if slope == 0:
        raise InputError(f"{path}: RescaleSlope is 0, so its Hounsfield units are lost")
    if not SLOPES[0] <= abs(slope) <= SLOPES[1]:
        raise InputError(
            f"{path}: RescaleSlope {slope:g}; a CT has {SLOPES[0]:g} to {SLOPES[1]:g}. Its header "
            "is damaged; copy or export the file again"
        )
    # "US" is unspecified, and is what scanners write that mean HU.
    unit = str(rescale.get("RescaleType") or "HU").strip().upper()
    if unit not in ("HU", "HU_MOD", "US"):
        raise InputError(f"{path}: its values are {unit}, not Hounsfield units")
    return Slice(
        path=path,
        frame=frame,
        uid=str(header.get("SOPInstanceUID") or ""),
        rows=int(header.Rows),
        columns=int(header.Columns),
        position=_numbers(path, position, "ImagePositionPatient", 3),
        along_row=along_row,
        along_column=along_column / np.linalg.norm(along_column),
        spacing=(spacing_x, spacing_y),
        interval=_interval(measures, header),
        slope=slope,
        intercept=float(_numbers(path, rescale, "RescaleIntercept", 1)[0]),
        identity=tuple(str(header.get(keyword) or "").strip() for keyword in IDENTITY),
        read_whole=file.is_bare or header.file_meta.get("TransferSyntaxUID") == DEFLATED,
    )


def _interval(*headers: "Dataset") -> float:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        for header in headers:
            value = abs(float(header.get(keyword) or 0))
            if 0 < value < math.inf:
                return value
    return math.nan


def _numbers(path: Path, header: "Dataset", keyword: str, count: int) -> np.ndarray:
    values = np.atleast_1d(np.array(need(header, keyword, path), dtype=np.float64))
    if values.shape != (count,) or not np.isfinite(values).all():
        raise InputError(f"{path}: {keyword} must be {count} numbers, got {values.tolist()}")
    return values
