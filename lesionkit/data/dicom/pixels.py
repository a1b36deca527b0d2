"""Stored pixels of DICOM CT slices as Hounsfield units."""

import mmap
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lesionkit.data.dicom.files import (
    DEFLATED,
    UNDEFINED_LENGTH,
    DicomFile,
    Slice,
    damaged,
    read_whole,
)
from lesionkit.data.volume import check_hu, compact_hu
from lesionkit.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset


def check_coding(file: DicomFile, frames: int) -> None:
    """Refuse colour, unusual bit depths, absent decoders and pixels that do not fit the header."""
    from pydicom.uid import JPEG2000TransferSyntaxes

    path, header = file.path, file.header
    samples = int(header.get("SamplesPerPixel") or 1)
    colours = str(header.get("PhotometricInterpretation") or "MONOCHROME2")
    if samples != 1 or colours not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(
            f"{path}: a colour image ({colours}, {samples} samples a pixel); CT slices are grey. "
            "Remove it from the folder"
        )
    bits = int(header.get("BitsAllocated") or 16)
    if bits not in (8, 16):
        raise InputError(f"{path}: {bits} bits a pixel; CT slices have 16 (or 8)")
    syntax = header.file_meta.get("TransferSyntaxUID")
    if not syntax:
        raise InputError(f"{path}: its header has no TransferSyntaxUID, so it cannot be decoded")
    _check_decoder(path, syntax, bits)
    if syntax in JPEG2000TransferSyntaxes:
        _check_codestreams(path, header)
    if file.pixel_bytes is None:
        raise InputError(f"{path}: no pixels; the file is truncated or no image")
    if syntax.is_compressed and syntax != DEFLATED:
        return
    if file.pixel_bytes == UNDEFINED_LENGTH:
        raise InputError(
            f"{path}: its pixels are compressed, but its transfer syntax is {syntax.name}; "
            "export it again"
        )
    size = int(header.Rows) * int(header.Columns) * frames * bits // 8
    have = file.pixel_bytes if syntax == DEFLATED else min(file.pixel_bytes, path.stat().st_size)
    if have < size:
        raise InputError(
            f"{path}: {have} bytes, but its pixels alone take {size}; the file is truncated"
        )
    if have > size + 1:  # one byte may pad it to an even length
        raise InputError(
            f"{path}: {have} bytes of pixels, but {header.Rows} rows of {header.Columns} in "
            f"{frames} frame(s) take {size}; its header is wrong or the file is corrupt"
        )


def read_hu(slices: Sequence[Slice]) -> np.ndarray:
    """HU [S, H, W] of slices of one size: int16 where slope and intercept make it exact."""
    from pydicom.pixels import pixel_array

    shape = (slices[0].rows, slices[0].columns)
    hu = np.empty((len(slices), *shape), np.int16)
    for index, one in enumerate(slices):
        with damaged(one.path), np.errstate(over="ignore"):
            # From a path pydicom reads one frame only.
            source = read_whole(one.path) if one.read_whole else one.path
            stored = pixel_array(source, index=one.frame)
            values = compact_hu(stored.astype(np.float64) * one.slope + one.intercept)
        if values.shape != shape or not np.isfinite(values).all():
            raise InputError(f"{one.path}: its pixels do not fit its header; the file is corrupt")
        check_hu(str(one.path), values)
        if values.dtype == np.float32 and hu.dtype == np.int16:
            hu = hu.astype(np.float32)
        hu[index] = values
    return hu


def _check_decoder(path: Path, syntax: str, bits: int) -> None:
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEG2000TransferSyntaxes, JPEGExtended12Bit

    try:
        plugins = set(get_decoder(syntax).available_plugins)
    except NotImplementedError:
        raise InputError(
            f"{path}: transfer syntax {syntax.name} is not supported; convert the file to "
            "Explicit VR Little Endian"
        ) from None
    if syntax == JPEGExtended12Bit and bits > 8:
        plugins.discard("pillow")  # it decodes the 8-bit kind only
    if syntax.is_compressed and not plugins:
        package = (
            "pylibjpeg pylibjpeg-openjpeg" if syntax in JPEG2000TransferSyntaxes else "python-gdcm"
        )
        raise InputError(
            f"{path}: compressed as {syntax.name}, and no decoder for that is installed; "
            f"pip install {package}"
        )


def _check_codestreams(path: Path, header: "Dataset") -> None:
    """Compare the size inside each JPEG 2000 codestream with the header's: decoders obey the inner.

    A codestream begins with the markers SOC and SIZ, then (big endian) two 16-bit fields and the
    32-bit width, height and offsets of the reference grid (ISO/IEC 15444-1, A.5.1).
    """
    size = (int(header.Columns), int(header.Rows))
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.find(b"\xff\x4f\xff\x51")
        while start >= 0:
            right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
            if (right - left, bottom - top) != size:
                raise InputError(
                    f"{path}: its header says {size[0]} x {size[1]} pixels, the image inside "
                    f"{right - left} x {bottom - top}; the file is corrupt"
                )
            start = data.find(b"\xff\x4f\xff\x51", start + 4)
