"""Splits of one's own, in place of DL_info.csv's column Train_Val_Test."""

import csv
import os
from pathlib import Path

import numpy as np

from lesionkit.data.deeplesion.lesions import SPLITS, LesionTable
from lesionkit.errors import InputError

KEYS = {"patient": "patient", "file_name": "file_name"}  # column of the file: field of `Lesion`


def read_split_file(path: str | os.PathLike) -> tuple[str, dict[str | int, int]]:
    """What a split file names, "patient" or "file_name", and the split (1, 2, 3) of each.

    A CSV file with the columns ``patient`` (Patient_index) or ``file_name`` (File_name), and
    ``split``: train, val or test. Other columns are ignored.

    Raises InputError naming the file and the line.
    """
    path = Path(path)
    splits: dict[str | int, int] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            keys = [name for name in KEYS if name in columns]
            if len(keys) != 1 or "split" not in columns:
                raise InputError(
                    f"{path}, line 1: columns {', '.join(columns) or '(none)'}; a split file has "
                    "patient or file_name, and split"
                )
            for row in reader:
                key, split = _entry(row, keys[0], f"{path}, line {reader.line_num}")
                if splits.setdefault(key, split) != split:
                    raise InputError(
                        f"{path}, line {reader.line_num}: {keys[0]} {key} is in another split "
                        "above; keep one of the lines"
                    )
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name a CSV file with the splits") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV text file ({error})") from error
    return keys[0], splits


def own_splits(path: str | os.PathLike, table: LesionTable) -> np.ndarray:
    """[n] the split of each lesion by a split file: 1, 2, 3, or 0 for what it does not name.

    Raises InputError if the file names what the table does not have.
    """
    name, splits = read_split_file(path)
    known, index = np.unique(table.column(KEYS[name]), return_inverse=True)
    known = known.tolist()
    if unknown := set(splits).difference(known):
        shown = ", ".join(map(str, sorted(unknown)[:3]))
        raise InputError(
            f"{path}: {len(unknown)} of {len(splits)} entries are not in DL_info.csv ({shown}); "
            "correct or remove them"
        )
    return np.array([splits.get(key, 0) for key in known], int)[index]


def _entry(row: dict[str, str | None], name: str, where: str) -> tuple[str | int, int]:
    text, split = ((row[column] or "").strip() for column in (name, "split"))
    if split not in SPLITS:
        raise InputError(f"{where}: split must be one of {', '.join(SPLITS)}, got {split!r}")
    if name == "file_name" and text:
        return text, SPLITS[split]
    if text.isascii() and text.isdecimal() and len(text) < 10:  # DeepLesion's 000039 too
        return int(text), SPLITS[split]
    raise InputError(f"{where}: {name} must be one of DL_info.csv's, got {text!r}")
