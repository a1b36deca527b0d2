"""DL_info.csv, the table of DeepLesion: one row per lesion, 18 columns.

Columns and their meaning: Yan et al. 2018 (DeepLesion); reading as 3DCE,
`rcnn/dataset/DeepLesion.py`.
"""

import csv
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lesionkit.data.volume import PIXEL_MM
from lesionkit.errors import InputError
from lesionkit.files import atomic_write

DL_INFO_COLUMNS = (
    "File_name",
    "Patient_index",
    "Study_index",
    "Series_ID",
    "Key_slice_index",
    "Measurement_coordinates",
    "Bounding_boxes",
    "Lesion_diameters_Pixel_",
    "Normalized_lesion_location",
    "Coarse_lesion_type",
    "Possibly_noisy",
    "Slice_range",
    "Spacing_mm_px_",
    "Image_size",
    "DICOM_windows",
    "Patient_gender",
    "Patient_age",
    "Train_Val_Test",
)

LESION_TYPES = {
    -1: "unknown",
    1: "bone",
    2: "abdomen",
    3: "mediastinum",
    4: "liver",
    5: "lung",
    6: "kidney",
    7: "soft tissue",
    8: "pelvis",
}

SPLITS = {"train": 1, "val": 2, "test": 3}

# The last underscore separates folder and slice number. No separators of paths: a row must not
# be able to name a file outside the data set.
_FILE_NAME = re.compile(r"(\w[\w-]*)_(\d+)\.png")


@dataclass(frozen=True)
class Lesion:
    """One row of DL_info.csv. Pixel coordinates are 0-based (the file's are 1-based).

    Attributes:
        lesion_id: number of the row, 0-based, in the whole file.
        file_name: like ``000039_01_01_067.png``.
        key_slice: number of the slice the lesion was measured on.
        box: (x1, y1, x2, y2), fractions of pixels, inclusive ends; may leave the image.
        measurement: the RECIST axes' ends, x11, y11, x12, y12 (long), x21, y21, x22, y22 (short).
        diameters_px: long and short axis in pixels; times ``spacing[0]`` for millimetres.
        location: x, y, z of the lesion in the body, 0..1.
        lesion_type: key of `LESION_TYPES`.
        slice_range: first and last slice on disk around this lesion.
        spacing: millimetres between columns, rows and slices; the last may be NaN.
        image_size: as in the file, two pixel counts.
        window: DICOM window, low and high HU.
        gender: ``M``, ``F`` or empty.
        age: years; NaN if unknown.
        split: 1 train, 2 val, 3 test.
    """

    lesion_id: int
    file_name: str
    patient: int
    study: int
    series: int
    key_slice: int
    box: tuple[float, float, float, float]
    measurement: tuple[float, ...]
    diameters_px: tuple[float, float]
    location: tuple[float, float, float]
    lesion_type: int
    noisy: bool
    slice_range: tuple[int, int]
    spacing: tuple[float, float, float]
    image_size: tuple[int, int]
    window: tuple[float, float]
    gender: str
    age: float
    split: int

    @property
    def folder(self) -> str:
        """The folder of the series' slices: the file name up to its last underscore."""
        return self.file_name.rpartition("_")[0]


def read_dl_info(path: str | os.PathLike) -> list[Lesion]:
    """Every row of a DL_info.csv, in order. Raises InputError naming the file and line."""
    path = Path(path)
    lesions = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            columns = _column_positions(path, next(reader, []))
            for row in reader:
                if not row:
                    continue
                try:
                    values = {name: row[position].strip() for name, position in columns.items()}
                    lesions.append(_lesion(len(lesions), values))
                except (ValueError, IndexError) as error:
                    reason = "too few columns" if isinstance(error, IndexError) else error
                    raise InputError(
                        f"{path}, line {reader.line_num}: {reason}; "
                        "correct the row or fetch DL_info.csv again"
                    ) from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; DeepLesion needs its DL_info.csv") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV text file ({error})") from error
    return lesions


def write_dl_info(path: str | os.PathLike, rows: Iterable[Mapping[str, object]]) -> None:
    """Write a DL_info.csv as DeepLesion has it: six digits, tuples joined by a comma and a space.

    Args:
        rows: per lesion the values of `DL_INFO_COLUMNS` by name: str, number, or a sequence of
            numbers. Values go to the file as they are, so pixel coordinates must be 1-based.
    """
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(DL_INFO_COLUMNS)
        for row in rows:
            if missing := [name for name in DL_INFO_COLUMNS if name not in row]:
                raise ValueError(f"row of {path} lacks {', '.join(missing)}")
            writer.writerow([_field(row[name]) for name in DL_INFO_COLUMNS])


def _field(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Iterable):
        return ", ".join(_field(item) for item in value)
    return f"{float(value):.6g}" if isinstance(value, float | np.floating) else str(int(value))


def _column_positions(path: Path, header: list[str]) -> dict[str, int]:
    names = [name.strip() for name in header]
    if missing := [name for name in DL_INFO_COLUMNS if name not in names]:
        raise InputError(f"{path}, line 1: columns {', '.join(missing)} are missing")
    return {name: names.index(name) for name in DL_INFO_COLUMNS}


def _lesion(lesion_id: int, row: Mapping[str, str]) -> Lesion:
    match = _FILE_NAME.fullmatch(row["File_name"])
    key_slice = _integer(row, "Key_slice_index")
    if match is None or int(match[2]) != key_slice:
        raise ValueError(
            f"File_name {row['File_name']!r} must be <folder>_<Key_slice_index {key_slice}>.png"
        )
    x1, y1, x2, y2 = (v - 1 for v in _numbers(row, "Bounding_boxes", 4))
    if x2 < x1 or y2 < y1:
        raise ValueError(f"Bounding_boxes {row['Bounding_boxes']!r} end before they begin")
    spacing = _numbers(row, "Spacing_mm_px_", 3, finite=False)
    least, most = PIXEL_MM
    if not all(least <= s <= most for s in spacing[:2]):
        raise ValueError(
            f"Spacing_mm_px_ {row['Spacing_mm_px_']!r} must be {least:g} to {most:g} mm a pixel"
        )
    lesion_type = _integer(row, "Coarse_lesion_type")
    if lesion_type not in LESION_TYPES:
        raise ValueError(f"Coarse_lesion_type {lesion_type} must be 1..8, or -1 if unknown")
    split = _integer(row, "Train_Val_Test")
    if split not in SPLITS.values():
        raise ValueError(f"Train_Val_Test {split} must be 1, 2 or 3")
    return Lesion(
        lesion_id=lesion_id,
        file_name=row["File_name"],
        patient=_integer(row, "Patient_index"),
        study=_integer(row, "Study_index"),
        series=_integer(row, "Series_ID"),
        key_slice=key_slice,
        box=(x1, y1, x2, y2),
        measurement=tuple(v - 1 for v in _numbers(row, "Measurement_coordinates", 8)),
        diameters_px=_numbers(row, "Lesion_diameters_Pixel_", 2),
        location=_numbers(row, "Normalized_lesion_location", 3),
        lesion_type=lesion_type,
        noisy=_integer(row, "Possibly_noisy") > 0,
        slice_range=tuple(int(v) for v in _numbers(row, "Slice_range", 2)),
        spacing=spacing,
        image_size=tuple(int(v) for v in _numbers(row, "Image_size", 2)),
        window=_numbers(row, "DICOM_windows", 2),
        gender=row["Patient_gender"] if row["Patient_gender"].lower() != "nan" else "",
        age=float(row["Patient_age"] or "nan"),
        split=split,
    )


def _integer(row: Mapping[str, str], column: str) -> int:
    try:
        return int(row[column])
    except ValueError:
        raise ValueError(f"{column} must be a whole number, got {row[column]!r}") from None


def _numbers(
    row: Mapping[str, str], column: str, count: int, finite: bool = True
) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in row[column].split(","))
    except ValueError:
        values = ()
    if len(values) != count or (finite and not all(map(math.isfinite, values))):
        raise ValueError(f"{column} must be {count} numbers, got {row[column]!r}")
    return values
