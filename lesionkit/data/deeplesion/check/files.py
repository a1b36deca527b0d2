"""Checks of the slices of one series."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lesionkit.data.deeplesion.check.problems import Problem, as_ranges
from lesionkit.data.deeplesion.nifti import NiftiVolumes, read_volume
from lesionkit.data.deeplesion.slices import HU_OFFSET, read_png, slice_numbers, slice_path
from lesionkit.errors import InputError

LEAST_HU = -10000  # no CT has less, padding included: such a file holds no HU + 32768


@dataclass(frozen=True)
class Series:
    """What DL_info.csv says of a series, and where its slices should be.

    ranges: first and last slice around each lesion. size: columns and rows. spacing: mm.
    volumes: of each range, the NIfTI file that holds it, None if there is none; for PNG files,
    the folder alone.
    """

    name: str
    ranges: tuple[tuple[int, int], ...]
    key_slices: tuple[int, ...]
    size: tuple[int, int]
    spacing: tuple[float, float, float]
    folder: Path
    volumes: tuple[Path | None, ...] | None = None


def find_volumes(volumes: NiftiVolumes, name: str, ranges) -> tuple[Path | None, ...]:
    """The volume that holds all slices of each range."""
    found = []
    for first, last in ranges:
        path = volumes.find(name, first)
        found.append(path if path is not None and path == volumes.find(name, last) else None)
    return tuple(found)


def check_series(series: Series, quick: bool) -> tuple[str, int, list[Problem]]:
    """The series' name, how many of its slices were read, and what is wrong with them.

    ``quick`` looks at names alone. One problem of a kind stands for all slices that have it.
    """
    count, problems = 0, []
    check = _check_png if series.volumes is None else _check_volumes
    try:
        for slices, problem in check(series, quick):
            count += slices
            problems += [problem] if problem else []
    except OSError as error:  # such as a folder that may not be read
        message = f"{error.filename or series.folder}: {error.strerror}"
        problems.append(Problem("unreadable", "error", series.name, message))
    return series.name, count, problems


def _check_png(series: Series, quick: bool) -> Iterator[tuple[int, Problem | None]]:
    wanted = {n for first, last in series.ranges for n in range(first, last + 1)}
    wanted |= set(series.key_slices)
    present = set(slice_numbers(series.folder)) if series.folder.is_dir() else set()
    if missing := wanted - present:
        yield 0, _missing(series, missing, str(series.folder))
    unreadable, wrong, strange = {}, {}, {}
    for number in sorted(wanted & present) if not quick else ():
        path = slice_path(series.folder, number)
        try:
            raw = read_png(path)
        except InputError as error:
            unreadable[number] = str(error)
            continue
        yield 1, None
        if raw.shape[::-1] != series.size:
            wrong[number] = f"{path}: {raw.shape[1]} x {raw.shape[0]} pixels"
        if (lowest := int(raw.min()) - HU_OFFSET) < LEAST_HU:
            strange[number] = f"{path}: values down to {lowest} HU"
    yield from _of_slices(series, unreadable, wrong, strange)


def _check_volumes(series: Series, quick: bool) -> Iterator[tuple[int, Problem | None]]:
    missing = {
        number
        for (first, last), path in zip(series.ranges, series.volumes, strict=True)
        if path is None
        for number in range(first, last + 1)
    }
    if missing:
        yield 0, _missing(series, missing, f"{series.folder}/{series.name}_*.nii.gz")
    unreadable, wrong, strange = {}, {}, {}
    for path in sorted(set(series.volumes) - {None}) if not quick else ():
        first = series.ranges[series.volumes.index(path)][0]
        try:
            volume = read_volume(path)
        except InputError as error:
            unreadable[first] = str(error)
            continue
        yield len(volume.hu), None
        if volume.hu.shape[:0:-1] != series.size:
            wrong[first] = f"{path}: {volume.hu.shape[2]} x {volume.hu.shape[1]} pixels"
        if (lowest := int(volume.hu.min())) < LEAST_HU:
            strange[first] = f"{path}: values down to {lowest} HU"
        known = [mm for mm in series.spacing if mm > 0]
        if not np.allclose(volume.spacing[: len(known)], known, rtol=0.01):
            text = " x ".join(f"{mm:.4g}" for mm in volume.spacing)
            yield (
                0,
                Problem(
                    "inconsistent",
                    "warning",
                    series.name,
                    f"{path}: spacing {text} mm is not that of DL_info.csv",
                ),
            )
    yield from _of_slices(series, unreadable, wrong, strange)


def _missing(series: Series, missing: set[int], where: str) -> Problem:
    keys = sorted(missing.intersection(series.key_slices))
    note = f", key slices {as_ranges(keys)} among them" if keys else ""
    return Problem(
        "missing", "error", series.name, f"{where}: slices {as_ranges(missing)} are missing{note}"
    )


def _of_slices(
    series: Series, unreadable: dict[int, str], wrong: dict[int, str], strange: dict[int, str]
) -> Iterator[tuple[int, Problem]]:
    columns, rows = series.size
    for kind, found, remark in (
        ("unreadable", unreadable, ""),
        ("size", wrong, f"; Image_size says {columns} x {rows}"),
        ("values", strange, "; DeepLesion's files hold HU + 32768"),
    ):
        if found:
            more = f" (and slices {as_ranges(list(found)[1:])})" if len(found) > 1 else ""
            message = next(iter(found.values())) + remark + more
            yield 0, Problem(kind, "error", series.name, message)
