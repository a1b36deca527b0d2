"""Lesions, one by one and as arrays."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

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

DIAMETER_AXES = ("long", "short", "mean")

SPLITS = {"train": 1, "val": 2, "test": 3}


@dataclass(frozen=True)
class Lesion:
    """One row of DL_info.csv. Pixel coordinates are 0-based (the file's are 1-based).

    Attributes:
        lesion_id: number of the row, 0-based, in the whole file.
        file_name: like ``000039_01_01_067.png``.
        key_slice: number of the slice the lesion was measured on.
        box: (x1, y1, x2, y2), fractions of pixels, inclusive ends; may leave the image.
        measurement: the RECIST axes' ends, x11, y11, x12, y12 (long), x21, y21, x22, y22 (short).
        diameters_px: long and short axis in pixels; see `diameter_mm`.
        location: x, y, z of the lesion in the body, 0..1.
        lesion_type: key of `LESION_TYPES`.
        slice_range: first and last slice on disk around this lesion.
        spacing: millimetres between columns, rows and slices; the last may be NaN.
        image_size: as in the file, two pixel counts.
        window: DICOM window, low and high HU. Like the measurement, the diameters and the location
            it is NaN where unknown, which DeepLesion's own never are.
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

    @property
    def interval(self) -> float:
        """Millimetres from slice to slice; NaN if unknown."""
        return self.spacing[2]

    def diameter_mm(self, axis: str = "long") -> float:
        """Millimetres across the lesion: its "long" axis, its "short" one or their "mean"."""
        if axis not in DIAMETER_AXES:
            raise ValueError(f"axis must be one of {', '.join(DIAMETER_AXES)}, got {axis!r}")
        long, short = self.diameters_px
        return {"long": long, "short": short, "mean": (long + short) / 2}[axis] * self.spacing[0]


_NUMBERS = np.dtype(
    [
        ("lesion_id", "i8"),
        ("patient", "i8"),
        ("study", "i8"),
        ("series", "i8"),
        ("key_slice", "i8"),
        ("box", "f8", (4,)),
        ("measurement", "f8", (8,)),
        ("diameters_px", "f8", (2,)),
        ("location", "f8", (3,)),
        ("lesion_type", "i8"),
        ("noisy", "?"),
        ("slice_range", "i8", (2,)),
        ("spacing", "f8", (3,)),
        ("image_size", "i8", (2,)),
        ("window", "f8", (2,)),
        ("age", "f8"),
        ("split", "i8"),
    ]
)
_TEXTS = ("file_name", "gender")
assert {field.name for field in dataclasses.fields(Lesion)} == {*_NUMBERS.names, *_TEXTS}


class LesionTable(Sequence[Lesion]):
    """A sequence of lesions, kept as arrays; each is built when it is asked for.

    DeepLesion has 32,735 rows. As Python objects they would be copied into every worker process,
    page by page, since to read an object is to write its reference count.
    """

    def __init__(self, lesions: Iterable[Lesion]) -> None:
        texts: list[tuple[str, ...]] = []

        def numbers() -> Iterator[tuple]:
            for lesion in lesions:
                texts.append(tuple(getattr(lesion, name) for name in _TEXTS))
                yield tuple(getattr(lesion, name) for name in _NUMBERS.names)

        self._numbers = np.fromiter(numbers(), _NUMBERS)
        columns = zip(*texts, strict=True) if texts else [()] * len(_TEXTS)
        self._texts = {
            name: np.array(column, np.str_) for name, column in zip(_TEXTS, columns, strict=True)
        }

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index):  # int -> Lesion, slice -> LesionTable
        if isinstance(index, slice):
            return self.take(index)
        row = self._numbers[index]
        values = {name: row[name].tolist() for name in _NUMBERS.names}
        texts = {name: str(column[index]) for name, column in self._texts.items()}
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return Lesion(**values, **texts)

    def column(self, name: str) -> np.ndarray:
        """[n] or [n, k]: a field of `Lesion` for all lesions."""
        return self._texts[name] if name in _TEXTS else self._numbers[name]

    def with_splits(self, splits: np.ndarray) -> "LesionTable":
        """The same lesions with other splits [n]."""
        changed = self.take(slice(None))
        changed._numbers = changed._numbers.copy()
        changed._numbers["split"] = splits
        return changed

    def take(self, rows: np.ndarray | slice) -> "LesionTable":
        """The lesions of these rows [k], in that order."""
        taken = LesionTable(())
        taken._numbers = self._numbers[rows]
        taken._texts = {name: column[rows] for name, column in self._texts.items()}
        return taken
