"""Which sizes are measured, in the order in which a run that is cut should have them."""

from collections.abc import Iterable
from math import prod
from typing import NamedTuple

OPS = ("contextual", "psroi", "spatial", "dual")
CHECKS = ("tests", "sanitizer", "engine")  # what passes or fails as a whole
ATTENTION = ("contextual", "spatial", "dual")

# (B, M, side of the feature grid), 512 channels: 9 to 27 slices at strides 8 and 16.
SHAPES = [(b, m, side) for side in (64, 32) for b, m in ((1, 5), (2, 9), (1, 9), (1, 7), (1, 3))]

# (M, side of the feature grid, rois) of one sample of 512 x 512 pixels: tests keep 300 rois,
# training 128 or 32. The strides are 8 and 16.
POOLINGS = [
    (5, 64, 300),
    (9, 64, 300),
    (9, 64, 128),
    (3, 64, 300),
    (7, 64, 300),
    (5, 64, 32),
    *((m, 32, 300) for m in (5, 9, 3, 7)),
]


class Point(NamedTuple):
    """One size and type of an op: [B, M, D, H, W], or the features [B, C, H, W] and the rois."""

    op: str
    shape: tuple[int, ...]
    dtype: str
    rois: int | None = None

    @property
    def facts(self) -> dict:
        """The fields that all rows of this point share."""
        facts = {"op": self.op, "shape": list(self.shape), "dtype": self.dtype}
        return facts if self.rois is None else facts | {"rois": self.rois}

    @property
    def label(self) -> str:
        return label(self.facts)

    @property
    def numel(self) -> int:
        return prod(self.shape)


def label(row: dict) -> str:
    """A point of an op in one word or three: 1x2450x64x64 float32, 300 rois."""
    text = f"{'x'.join(map(str, row['shape']))} {row['dtype']}"
    return f"{text}, {row['rois']} rois" if "rois" in row else text


def planned(op: str, small: bool = False) -> list[Point]:
    """All points of an op, or with `small` one tiny size in each type."""
    if op == "psroi":
        sizes = [((1, 490 * m, side, side), rois) for m, side, rois in POOLINGS]
        dtypes = ("float32", "bfloat16")
        if small:
            sizes = [((1, 49, 16, 16), 4)]
    else:
        sizes = [((b, m, 512, side, side), None) for b, m, side in SHAPES]
        dtypes = ("bfloat16", "float32")
        if small:
            sizes = [((1, 3, 2, 8, 8), None)]
    # float16 moves as many bytes as bfloat16, and so comes last.
    groups = (dtypes, ("float16",))
    return [
        Point(op, shape, dtype, rois)
        for group in groups
        for shape, rois in sizes
        for dtype in group
    ]


def in_turn(ops: Iterable[str], small: bool = False) -> list[Point]:
    """The points of all these ops: the first of each, then the second of each, and so on."""
    lists = [planned(op, small) for op in ops]
    longest = max(map(len, lists), default=0)
    return [points[i] for i in range(longest) for points in lists if i < len(points)]


def core(points: list[Point]) -> list[Point]:
    """What a first run measures: detectors' usual size, M = 5 at stride 8, in both main types."""
    sizes = {(1, 5, 512, 64, 64), (1, 2450, 64, 64)}
    return [
        point
        for point in points
        if point.shape in sizes and point.dtype != "float16" and point.rois in (None, 300)
    ]


def select(points: list[Point], shapes: list[str], dtypes: list[str]) -> list[Point]:
    """Those of the shapes (as 1x5x512x64x64) and types asked for; all if none is.

    Raises:
        ValueError: a shape or type that no point has.
    """
    for name, wanted, of in (
        ("--shape", shapes, lambda point: "x".join(map(str, point.shape))),
        ("--dtype", dtypes, lambda point: point.dtype),
    ):
        there = sorted({of(point) for point in points})
        unknown = [value for value in wanted if value not in there]
        if unknown:
            raise ValueError(f"{name} must be one of {', '.join(there)}, got {', '.join(unknown)}")
        points = [point for point in points if not wanted or of(point) in wanted]
    return points
