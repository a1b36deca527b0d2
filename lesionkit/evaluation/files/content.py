"""What a file of boxes holds: JSON of some kind, or a CSV table."""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from lesionkit.errors import InputError
from lesionkit.files import reading

COORDINATES = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class Table:
    """A CSV file: its text, and the header's names in lower case."""

    path: Path
    text: str
    columns: tuple[str, ...]

    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """The line number and the values of the columns ``names`` of each row that is not blank."""
        places = [self.columns.index(name) for name in names]
        for line, row in islice(csv_rows(self.path, self.text), 1, None):
            if len(row) != len(self.columns):
                raise InputError(
                    f"{self.path}, line {line}: {len(row)} values, but the header has "
                    f"{len(self.columns)} columns; correct the line"
                )
            yield line, [row[place] for place in places]


def csv_rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """The number of its last line, and the values, of each row of CSV that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        for row in reader:
            values = [value.strip() for value in row]
            if any(values):
                yield reader.line_num, values
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: not CSV ({error}); correct the line"
        ) from error


def read_content(path: str | os.PathLike, what: str) -> object:
    """The value of a JSON file, or the :class:`Table` of any other; ``what`` names it in messages.

    Raises InputError for a file that cannot be read or is neither.
    """
    path = Path(path)
    empty = f"{path}: empty; give a file of {what}"
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(empty)
    with reading(path, f"give a file of {what}"):
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file ({error}); give one of {what}") from error
    if text.lstrip()[:1] not in ("{", "["):
        line, header = next(csv_rows(path, text), (1, None))
        if header is None:
            raise InputError(empty)
        return Table(path, text, _column_names(f"{path}, line {line}", header))
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {error.lineno}: not JSON ({error.msg}); correct it or write it again"
        ) from error
    except (RecursionError, ValueError) as error:  # nested too deep; a number of too many digits
        raise InputError(f"{path}: not usable JSON ({error}); write it again") from error


def _column_names(where: str, header: Sequence[str]) -> tuple[str, ...]:
    columns = tuple(name.lower() for name in header)
    for delimiter, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(columns) == 1 and delimiter in columns[0]:
            raise InputError(f"{where}: columns are divided by {name}; write commas in their place")
    for name in filter(None, columns):
        if columns.count(name) > 1:
            raise InputError(
                f"{where}: {columns.count(name)} columns have the name {name}; remove or rename "
                "all but one"
            )
    return columns


def numbers(path: Path, line: int, names: Sequence[str], values: Sequence[str]) -> list[float]:
    """Finite numbers from a row's texts. Raises InputError naming the line and columns."""
    try:
        found = [float(value) for value in values]
        if all(map(is_number, found)):
            return found
    except ValueError:
        pass
    raise InputError(
        f"{path}, line {line}: {', '.join(names)} must be finite numbers, got "
        f"{', '.join(values)}; correct the line"
    )


def is_number(value: object) -> bool:
    """Whether it is a finite number that a float can hold; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def is_identity(value: object) -> bool:
    """Whether it can tell images or patients apart: a whole number or text."""
    return isinstance(value, int | str) and not isinstance(value, bool) and value != ""


def check_type(image_id: int | str, known: Iterable[int | str], where: str, path: Path) -> None:
    """Raise InputError if ``path`` has this id, which is none of ``known``, in the other type."""
    for other in known:
        if str(other) == str(image_id):
            kinds = ("text", "a number") if isinstance(image_id, str) else ("a number", "text")
            raise InputError(
                f"{where}: image_id {json.dumps(image_id)} is {kinds[0]}, but {kinds[1]} as the "
                f"image's id in {path}; write {json.dumps(other)}"
            )


def check_pixels(path: Path, boxes: np.ndarray) -> None:
    """Raise InputError if the boxes [n, 4] of a whole file seem to be fractions of the image."""
    if len(boxes) and np.abs(boxes).max() <= 1.5 and np.any(boxes % 1):
        raise InputError(
            f"{path}: no box reaches beyond 1.5 pixels; if they are fractions of the image, "
            "multiply them by its width and height in pixels"
        )


def check_corners(box: Sequence[float], where: str) -> None:
    """Raise InputError for a box that ends before it begins; one of no pixel at all is fine."""
    x1, y1, x2, y2 = box[:4]
    if x2 < x1 - 1 or y2 < y1 - 1:
        raise InputError(
            f"{where}: box {[x1, y1, x2, y2]} ends before it begins; boxes are x1, y1, x2, y2, two "
            "corners, not a corner and a size"
        )


def coco_boxes(entries: Sequence[object], name: str, path: Path) -> np.ndarray:
    """The "bbox" of COCO's annotations or results as [n, 4] float64 xyxy with inclusive ends.

    Raises InputError naming the entry, ``name[i]``.
    """
    for index, entry in enumerate(entries):
        value = entry.get("bbox") if isinstance(entry, dict) else None
        is_box = isinstance(value, list) and len(value) == 4 and all(map(is_number, value))
        if not is_box or min(value[2:]) < 0:
            raise InputError(
                f"{path}, {name}[{index}]: bbox must be [x, y, width, height], finite numbers and "
                f"no negative size, got {value!r}; correct it"
            )
    boxes = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - 1])
