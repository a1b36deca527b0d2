"""NIfTI: a label volume on the scan's own grid."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np

from lesionkit.data.volume import CTVolume
from lesionkit.errors import InputError
from lesionkit.files import atomic_write
from lesionkit.inference.results import ScanResults, edges

_MOST = 32767  # a side of a NIfTI-1 volume


def check(volume: CTVolume) -> None:
    """Raise InputError for a scan with more slices than NIfTI-1 can count."""
    if max(volume.hu.shape) > _MOST:
        raise InputError(
            f"{volume.source}: {len(volume.hu)} slices, NIfTI has at most {_MOST}; leave out "
            "--format nifti"
        )


def write(folder: str | os.PathLike, results: ScanResults) -> None:
    """Write ``findings.nii.gz``: voxels of a finding have its number, all others 0.

    On a slice from a finding's first to its last, the box of its place nearest to the slice is
    filled, every pixel that it covers half or more of in x and y. Where findings overlap, the one
    of higher score is seen. The affine (sform) is the scan's, in RAS mm as NIfTI wants it. It is
    written slice by slice, so that a large scan is not in memory twice.
    """
    volume = results.volume
    slices, rows, columns = volume.hu.shape
    kind = np.dtype("<u1" if len(results.findings) < 256 else "<u2")
    with (
        atomic_write(Path(folder, "findings.nii.gz")) as path,
        open(path, "wb") as raw,
        # No name and no time in it: the same findings are the same bytes.
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as stream,
    ):
        stream.write(_header(volume, kind))
        for number in range(slices):
            labels = np.zeros((rows, columns), kind)
            for label, finding in reversed(list(enumerate(results.findings, 1))):
                first, last = finding.slices
                if first <= number <= last:
                    x1, y1, x2, y2 = edges(finding.at(number).box)
                    labels[_pixels(y1, y2), _pixels(x1, x2)] = label
            stream.write(labels.tobytes())


def _pixels(first: float, last: float) -> slice:
    """The pixels whose centres lie between two edges."""
    return slice(max(int(np.ceil(first)), 0), max(int(np.floor(last)) + 1, 0))


def _header(volume: CTVolume, kind: np.dtype) -> bytes:
    """NIfTI-1's 348 bytes and the mark that no extension follows."""
    slices, rows, columns = volume.hu.shape
    to_ras = np.diag([-1.0, -1.0, 1.0])
    affine = np.column_stack([to_ras @ volume.direction * volume.spacing, to_ras @ volume.origin])
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, columns, rows, slices, 1, 1, 1, 1)
    datatype = {1: 2, 2: 512}[kind.itemsize]  # unsigned integers
    struct.pack_into("<2h", header, 70, datatype, 8 * kind.itemsize)
    struct.pack_into("<8f", header, 76, 1, *volume.spacing, 0, 0, 0, 0)
    struct.pack_into("<2f", header, 108, 352, 1)  # where voxels begin; slope
    header[123] = 2  # millimetres
    struct.pack_into("<80s", header, 148, b"lesionkit: labels are numbers of findings")
    struct.pack_into("<2h", header, 252, 0, 1)  # sform: the scanner's coordinates
    struct.pack_into("<12f", header, 280, *affine.ravel())
    header[344:348] = b"n+1\0"
    return bytes(header)
