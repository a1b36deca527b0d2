"""What a check of a data set finds."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    kind: "row", "inconsistent", "duplicate", "box", "missing", "unreadable", "size" or "values".
    severity: "error" (what it is in cannot be used as it is, or misleads a training) or "warning"
        (DeepLesion's own table has such rows; they are usable).
    where: the series folder, file name, patient or line.
    message: what is wrong.
    """

    kind: str
    severity: str
    where: str
    message: str


def as_ranges(numbers: Iterable[int]) -> str:
    """Numbers as text: 3-5, 9."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)
