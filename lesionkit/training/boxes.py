"""Boxes that somebody marked on slices of a scan, from a CSV file."""

import csv
import math
import os

import numpy as np

from lesionkit.data.volume import CTVolume
from lesionkit.errors import InputError

COLUMNS = ("slice", "x1", "y1", "x2", "y2")


def read_boxes(path: str | os.PathLike, volume: CTVolume) -> dict[int, np.ndarray]:
    """The boxes [g, 4] float32 of each marked slice of ``volume``.

    The file has the columns slice, x1, y1, x2, y2, others are ignored: the 0-based index of the
    slice in the order of ``volume.hu``, and 0-based pixels, both ends included. One row a box.

    Raises:
        InputError: no such file, a missing column, a value that is no number, a slice or a box
            outside the scan; the message names the line.
    """
    slices, height, width = volume.hu.shape
    boxes: dict[int, list[list[float]]] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise InputError(f"{path}, line 1: columns {', '.join(missing)} are missing")
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                try:
                    key = int(row["slice"])
                    x1, y1, x2, y2 = box = [float(row[name]) for name in COLUMNS[1:]]
                except (TypeError, ValueError):
                    raise InputError(
                        f"{where}: slice must be a whole number, x1 to y2 numbers"
                    ) from None
                if not 0 <= key < slices:
                    raise InputError(f"{where}: slice {key} is not in the scan's 0..{slices - 1}")
                inside = -0.5 <= x1 <= x2 <= width - 0.5 and -0.5 <= y1 <= y2 <= height - 0.5
                if not (all(map(math.isfinite, box)) and inside):
                    raise InputError(
                        f"{where}: box {x1:g}, {y1:g}, {x2:g}, {y2:g} must have x1 <= x2, y1 <= y2 "
                        f"and lie on a slice of {width} x {height} pixels"
                    )
                boxes.setdefault(key, []).append(box)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a CSV file of boxes") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV text file ({error})") from None
    if not boxes:
        raise InputError(f"{path}: no boxes in it")
    return {key: np.array(of_slice, dtype=np.float32) for key, of_slice in boxes.items()}
