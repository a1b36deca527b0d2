"""Opening DICOM files that nobody vouches for."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lesionkit.data.volume import MAX_VOLUME_BYTES
from lesionkit.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset

MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"  # the class of a DICOMDIR, whatever its name
DEFLATED = "1.2.840.10008.1.2.1.99"
MAX_INFLATED_BYTES = 256 << 20

TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "ImageType",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


@dataclass(frozen=True, eq=False)
class Slice:
    """One CT slice on disk: a file, or a frame of one."""

    path: Path
    frame: int
    uid: str
    rows: int
    columns: int
    position: np.ndarray  # LPS mm of the centre of the first pixel
    along_row: np.ndarray  # LPS unit vector of increasing x
    along_column: np.ndarray  # LPS unit vector of increasing y
    spacing: tuple[float, float]  # mm in x, y
    interval: float  # mm to the next slice as the header has it; NaN if it does not
    slope: float
    intercept: float
    deflated: bool


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Turn whatever pydicom and the decoders raise on bad bytes into an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(
            f"{path}: not readable as DICOM ({reason}); the file is truncated or corrupt"
        ) from error


def need(header: "Dataset", keyword: str, path: Path) -> object:
    """The value of a tag, or an InputError that names the file and the tag."""
    value = header.get(keyword)
    if value is None or value == "":
        raise InputError(
            f"{path}: the DICOM tag {keyword} is missing; the file is truncated or no CT image"
        )
    return value


def is_dicom(path: Path) -> bool:
    """Whether it is a regular file with the mark of DICOM."""
    if not path.is_file():
        return False
    with open(path, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_header(path: Path) -> "Dataset | None":
    """The tags above, without pixels; None for a file that is not DICOM and for a DICOMDIR."""
    from pydicom import dcmread

    if not is_dicom(path):
        return None
    size = path.stat().st_size
    if size > MAX_VOLUME_BYTES:
        raise InputError(
            f"{path}: {size / 2**30:.1f} GiB; files up to {MAX_VOLUME_BYTES >> 30} GiB are read"
        )
    with damaged(path):
        _check_deflated(path)
        header = dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
        is_directory = header.file_meta.get("MediaStorageSOPClassUID") == MEDIA_DIRECTORY
        return None if is_directory else header


def _check_deflated(path: Path) -> None:
    """Inflate a deflated file in small pieces first: pydicom inflates it whole, however large."""
    from pydicom.filereader import read_dataset

    with open(path, "rb") as stream:
        stream.seek(132)
        meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
        if meta.get("TransferSyntaxUID") != DEFLATED:
            return
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        size = 0
        while piece := inflate.unconsumed_tail or stream.read(1 << 16):
            size += len(inflate.decompress(piece, 1 << 20))
            if size > MAX_INFLATED_BYTES:
                raise InputError(
                    f"{path}: inflates to more than {MAX_INFLATED_BYTES >> 20} MiB; store it with "
                    "another transfer syntax"
                )
            if inflate.eof:
                return
