"""DeepLesion's slices on disk: 16-bit PNG files that hold HU + 32768, numbered head to feet."""

import io
import os
import re
import struct
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np

from lesionkit.data.deeplesion.dl_info import read_dl_info
from lesionkit.data.volume import CTVolume, check_volume_size
from lesionkit.errors import InputError

HU_OFFSET = 32768
NIFTI = "Images_nifti"  # what DL_save_nifti.py writes to

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SLICE_NAME = re.compile(r"(\d{3,6})\.png")


def image_folder(root: Path) -> Path:
    """The folder under a DeepLesion root that holds the series folders; ``root`` if none does.

    Only where there are no PNG files, the folder of NIfTI volumes, ``Images_nifti``.
    """
    nested = root / "Images_png" / "Images_png"  # how the original zip files unpack
    png = (nested, root / "Images_png", *sorted(root.glob("Images_16bit*")))
    for folder in (*png, root / NIFTI):
        if folder.is_dir():
            return folder
    return root


def slice_path(folder: Path, slice_number: int) -> Path:
    """``<folder>/NNN.png``, three digits."""
    return folder / f"{slice_number:03d}.png"


def slice_numbers(folder: Path) -> list[int]:
    """The numbers of the slices in a series folder, ascending; empty if it is no such folder."""
    matches = (_SLICE_NAME.fullmatch(entry.name) for entry in os.scandir(folder))
    return sorted(int(match[1]) for match in matches if match)


def read_png(path: str | os.PathLike) -> np.ndarray:
    """Raw uint16 [H, W] of a 16-bit grey PNG. Its size and type are checked before decoding."""
    from PIL import Image

    try:
        data = Path(path).read_bytes()
        _check_chunks(memoryview(data))
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            check_volume_size(str(path), *image.size, 1)
            # Older Pillow calls a 16-bit grey PNG "I", newer "I;16"; no other PNG is either.
            if image.mode not in ("I;16", "I"):
                raise InputError(
                    f"{path}: a PNG of type {image.mode}; DeepLesion's slices are 16-bit grey "
                    "(HU + 32768)"
                )
            return np.asarray(image).astype(np.uint16)
    except InputError:
        raise
    except Exception as error:  # Pillow raises many types on damaged files
        raise InputError(
            f"{path}: not a readable PNG ({error}); the file is truncated or corrupt"
        ) from error


def _check_chunks(data: memoryview) -> None:
    """Raise ValueError if a PNG's checksums are wrong: Pillow decodes it to other pixels then."""
    start = len(_SIGNATURE)
    if data[:start] != _SIGNATURE:
        raise ValueError("no PNG signature")
    name = None
    while name != b"IEND":
        if start + 12 > len(data):
            raise ValueError("it ends too early")
        length, name = struct.unpack_from(">I4s", data, start)
        end = start + 8 + length
        if end + 4 > len(data):
            raise ValueError("it ends too early")
        if zlib.crc32(data[start + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ValueError("a checksum is wrong")
        start = end + 4


def read_deeplesion(folder: str | os.PathLike, series: str | None = None) -> CTVolume:
    """A DeepLesion series folder as a volume.

    The spacing comes from the DL_info.csv found in the folder or up to three folders above.
    DeepLesion publishes no patient coordinates: x is taken to the patient's left, y to posterior,
    slice numbers to inferior, and the origin is the first pixel of slice number 0. The series
    folders hold only the slices around lesions, so one may hold several runs of slices.

    Args:
        folder: folder with ``NNN.png`` files.
        series: the run of slices to read, as ``FIRST-LAST``, where the folder has several.

    Raises:
        InputError: several runs and no ``series``, no DL_info.csv or no row of this folder in it,
            no interval, sizes that differ, a damaged or wrong PNG.
    """
    folder = Path(folder)
    first, last = _choose_run(folder, slice_numbers(folder), series)
    spacing = _spacing(folder)
    files = [slice_path(folder, number) for number in range(first, last + 1)]
    key = read_png(files[0])
    check_volume_size(str(folder), key.shape[1], key.shape[0], len(files))
    hu = np.empty((len(files), *key.shape), np.int16)
    for index, file in enumerate(files):
        raw = read_png(file)
        if raw.shape != key.shape:
            raise InputError(
                f"{file}: {raw.shape[1]} x {raw.shape[0]} pixels, but {files[0].name} has "
                f"{key.shape[1]} x {key.shape[0]}; the slices of a series must have one size"
            )
        hu[index] = raw.astype(np.int32) - HU_OFFSET
    return CTVolume(
        hu=hu,
        spacing=spacing,
        origin=(0.0, 0.0, -first * spacing[2]),
        direction=np.diag([1.0, 1.0, -1.0]),
        source=str(folder),
        first_slice=first,
        slice_files=tuple(map(str, files)),
    )


def _choose_run(folder: Path, numbers: list[int], series: str | None) -> tuple[int, int]:
    ends = [a for a, b in pairwise(numbers) if b != a + 1] + numbers[-1:]
    starts = numbers[:1] + [b for a, b in pairwise(numbers) if b != a + 1]
    runs = {f"{start}-{end}": (start, end) for start, end in zip(starts, ends, strict=True)}
    if series is None and len(runs) == 1:
        return next(iter(runs.values()))
    if series in runs:
        return runs[series]
    wrong = f"has no run of slices {series!r}" if series else "has gaps between its slices"
    raise InputError(f"{folder}: {wrong}; choose a run with --series: {', '.join(runs)}")


def _spacing(folder: Path) -> tuple[float, float, float]:
    folder = folder.resolve()
    for parent in (folder, *folder.parents[:3]):
        if (parent / "DL_info.csv").is_file():
            break
    else:
        raise InputError(
            f"{folder}: no DL_info.csv in it or up to three folders above, so its spacing is not "
            "known; put DeepLesion's DL_info.csv beside Images_png"
        )
    table = parent / "DL_info.csv"
    for lesion in read_dl_info(table):
        if lesion.folder == folder.name:
            if not 0 < lesion.spacing[2] < float("inf"):
                raise InputError(f"{table}: slice interval {lesion.spacing[2]} of {folder.name}")
            return lesion.spacing
    raise InputError(f"{table}: no row is of {folder.name}, so the spacing is not known")
