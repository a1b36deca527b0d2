"""Opening DICOM files that nobody vouches for."""

import struct
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
UNDEFINED_LENGTH = 0xFFFFFFFF  # of an element; of PixelData where it is compressed

# What a file without the 128-byte preamble and the mark begins with: an element of group 2 or 8.
# Explicit VRs of the first elements there, and the longest value that one has (implicit VR).
_FIRST_VRS = (b"AE", b"CS", b"DA", b"LO", b"OB", b"SH", b"ST", b"TM", b"UI", b"UL")
_MOST_FIRST = 1024

# One value in a series, by definition; files that differ are of several scans.
IDENTITY = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID")

TAGS = [
    *IDENTITY,
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
class DicomFile:
    """The header of a DICOM file, and how long its PixelData says it is (None: it has none)."""

    path: Path
    header: "Dataset"
    pixel_bytes: int | None
    is_bare: bool  # without preamble and mark


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
    identity: tuple[str, ...]
    read_whole: bool  # pydicom cannot read one frame of a deflated or bare file


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
    """Whether it is a regular file with the mark of DICOM, or a whole data set without it."""
    if not path.is_file():
        return False
    with open(path, "rb") as stream:
        start = stream.read(132)
    return _is_marked(start) or (_may_be_bare(start) and _has_class(path))


def read_header(path: Path) -> DicomFile | None:
    """The tags above of a file that `is_dicom`, without its pixels; None for a DICOMDIR."""
    from pydicom import filereader
    from pydicom.tag import Tag

    _check_size(path)
    pixel_bytes = None

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        nonlocal pixel_bytes
        pixel_bytes = length if tag == 0x7FE00010 else pixel_bytes
        return tag >= 0x7FE00008  # what pydicom's stop_before_pixels stops at

    with damaged(path), open(path, "rb") as stream:
        is_bare = not _is_marked(stream.read(132))
        stream.seek(0)
        _check_deflated(path, 0 if is_bare else 132)
        header = filereader.read_partial(
            stream, at_pixels, force=is_bare, specific_tags=[Tag(keyword) for keyword in TAGS]
        )
        if header.file_meta.get("MediaStorageSOPClassUID") == MEDIA_DIRECTORY:
            return None
        if is_bare:
            _name_syntax(header)
        return DicomFile(path, header, pixel_bytes, is_bare)


def read_whole(path: Path) -> "Dataset":
    """The data set with its pixels, of a file that `read_header` has read."""
    from pydicom import dcmread

    dataset = dcmread(path, force=True)
    _name_syntax(dataset)
    return dataset


def _is_marked(start: bytes) -> bool:
    return start[128:132] == b"DICM"


def _may_be_bare(start: bytes) -> bool:
    if len(start) < 8 or start[:2] not in (b"\x02\0", b"\x08\0", b"\0\x08"):
        return False
    if start[4:6] in _FIRST_VRS:
        return True
    return start[0] != 0 and struct.unpack_from("<I", start, 4)[0] <= _MOST_FIRST


def _has_class(path: Path) -> bool:
    from pydicom import dcmread

    _check_size(path)
    try:
        _check_deflated(path, 0)
        header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=["SOPClassUID"])
        return bool(header.get("SOPClassUID"))
    except InputError:
        raise
    except Exception:  # not DICOM, and pydicom raises many types on such
        return False


def _name_syntax(dataset: "Dataset") -> None:
    """Write down the transfer syntax that pydicom found where no file meta information names it."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    if size > MAX_VOLUME_BYTES:
        raise InputError(
            f"{path}: {size / 2**30:.1f} GiB; files up to {MAX_VOLUME_BYTES >> 30} GiB are read"
        )


def _check_deflated(path: Path, start: int) -> None:
    """Inflate a deflated file in small pieces first: pydicom inflates it whole, however large."""
    from pydicom.filereader import read_dataset

    with open(path, "rb") as stream:
        stream.seek(start)
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
