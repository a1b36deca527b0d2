"""DL_info.csv, the table of DeepLesion: one row per lesion, 18 columns.

Columns and their meaning: Yan et al. 2018 (DeepLesion); reading as 3DCE,
`rcnn/dataset/DeepLesion.py`.
"""

import csv
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from lesionkit.data.deeplesion.lesions import LESION_TYPES, SPLITS, Lesion, LesionTable
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

_MOST_SLICES = 999_999  # six digits in the name of a slice's file
_MOST = 2**31 - 1  # of any count or number of something in a row

# The last underscore separates folder and slice number. No separators of paths: a row must not
# be able to name a file outside the data set.
_FILE_NAME = re.compile(r"(\w[\w-]*)_(\d+)\.png")


def read_dl_info(path: str | os.PathLike) -> LesionTable:
    """Every row of a DL_info.csv, in order.

    Raises InputError naming the file, and the line of a malformed row.
    """

    def rows() -> Iterator[Lesion]:
        for row in scan_dl_info(path):
            if isinstance(row, InputError):
                raise row
            yield row

    return LesionTable(rows())


def scan_dl_info(path: str | os.PathLike) -> Iterator[Lesion | InputError]:
    """Every row of a DL_info.csv, in order, or in its place what is wrong with it.

    Raises InputError if the file as a whole cannot be read.
    """
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            columns = _column_positions(path, next(reader, []))
            for lesion_id, row in enumerate(filter(None, reader)):
                try:
                    values = {name: row[position].strip() for name, position in columns.items()}
                    yield _lesion(lesion_id, values)
                except (ValueError, IndexError) as error:
                    reason = "too few columns" if isinstance(error, IndexError) else error
                    yield InputError(
                        f"{path}, line {reader.line_num}: {reason}; "
                        "correct the row or fetch DL_info.csv again"
                    )
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; DeepLesion needs its DL_info.csv") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV text file ({error})") from error


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
    for column, most in (("File_name", 255), ("Patient_gender", 16)):
        if len(row[column]) > most:
            raise ValueError(f"{column} is longer than {most} characters")
    x1, y1, x2, y2 = (v - 1 for v in _numbers(row, "Bounding_boxes", 4))
    if x2 < x1 or y2 < y1:
        raise ValueError(f"Bounding_boxes {row['Bounding_boxes']!r} end before they begin")
    spacing = _numbers(row, "Spacing_mm_px_", 3, nan=True)
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
        measurement=tuple(v - 1 for v in _numbers(row, "Measurement_coordinates", 8, nan=True)),
        diameters_px=_numbers(row, "Lesion_diameters_Pixel_", 2, nan=True),
        location=_numbers(row, "Normalized_lesion_location", 3, nan=True),
        lesion_type=lesion_type,
        noisy=_integer(row, "Possibly_noisy") > 0,
        slice_range=_integers(row, "Slice_range", 2, most=_MOST_SLICES),
        spacing=spacing,
        image_size=_integers(row, "Image_size", 2),
        window=_numbers(row, "DICOM_windows", 2, nan=True),
        gender=row["Patient_gender"] if row["Patient_gender"].lower() != "nan" else "",
        age=float(row["Patient_age"] or "nan"),
        split=split,
    )


def _integer(row: Mapping[str, str], column: str) -> int:
    try:
        value = int(row[column])
    except ValueError:
        value = _MOST + 1
    if abs(value) > _MOST:
        raise ValueError(f"{column} must be a whole number, got {row[column]!r}")
    return value


def _integers(
    row: Mapping[str, str], column: str, count: int, most: int = _MOST
) -> tuple[int, ...]:
    values = _numbers(row, column, count)
    if any(value < 0 or value > most or value % 1 for value in values):
        raise ValueError(
            f"{column} must be {count} whole numbers in 0..{most}, got {row[column]!r}"
        )
    return tuple(map(int, values))


def _numbers(
    row: Mapping[str, str], column: str, count: int, nan: bool = False
) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in row[column].split(","))
    except ValueError:
        values = ()
    if len(values) != count or not all(math.isfinite(v) or (nan and math.isnan(v)) for v in values):
        raise ValueError(f"{column} must be {count} numbers, got {row[column]!r}")
    return values
