"""Is a DeepLesion folder whole? Every row of DL_info.csv and every slice that it names."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from lesionkit.data.deeplesion.check.files import Series, check_series, find_volumes
from lesionkit.data.deeplesion.check.problems import Problem
from lesionkit.data.deeplesion.check.rows import check_rows, count_rows, series_of
from lesionkit.data.deeplesion.dl_info import scan_dl_info
from lesionkit.data.deeplesion.lesions import SPLITS, LesionTable
from lesionkit.data.deeplesion.nifti import NiftiVolumes
from lesionkit.data.deeplesion.slices import NIFTI, image_folder
from lesionkit.data.deeplesion.split_file import own_splits
from lesionkit.errors import InputError
from lesionkit.files import atomic_write
from lesionkit.processes import map_in_processes

__all__ = ["Problem", "Report", "check_deeplesion"]

SAVE_SECONDS = 10.0
_FEW_SERIES = 50  # are checked sooner than processes start


@dataclass(frozen=True)
class Report:
    """What a check found.

    splits: of "train", "val" and "test" the numbers of patients, images and boxes, with and without
    those marked noisy, and of lesion types. series, slices: how many were looked at and read, now
    or before an interruption. problems: see `Problem`; empty for a whole data set.
    """

    root: str
    images: str
    splits: dict[str, dict]
    series: int = 0
    slices: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def errors(self) -> list[Problem]:
        """The problems that are no mere warnings."""
        return [problem for problem in self.problems if problem.severity == "error"]

    def to_dict(self) -> dict:
        """The report as plain values that JSON keeps."""
        return {"format": "lesionkit-data-check-1", **asdict(self)}


def check_deeplesion(
    root: str | os.PathLike,
    *,
    split: str | None = None,
    split_file: str | os.PathLike | None = None,
    quick: bool = False,
    workers: int | None = None,
    state: str | os.PathLike | None = None,
    earlier: Sequence[str | os.PathLike] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> Report:
    """Check every row of a DeepLesion folder, and every slice in its Slice_range.

    Rows are checked for malformed and duplicate ones, for boxes that leave the image by more than
    5 pixels, and against the others of their series and patient. PNG files and NIfTI volumes are
    read whole, with their checksums. What the table does not name is not looked at.

    Args:
        root, split, split_file: as for `DeepLesion`; rows marked noisy are checked too.
        quick: only whether files are there; none is opened.
        workers: processes that read files; by default one for each core, and none for a few
            series.
        state: a file that says, every 10 seconds and at the end, which series were found clean.
        earlier: such files of interrupted checks. Series that were clean are not read again if
            root, table and choices are the same; the others are.
        progress: called with (series done, series in all, a note).

    Raises:
        InputError: no such folder, no DL_info.csv, or a split file that does not fit.
        ChildProcessError: a worker process was killed.
    """
    root = Path(root)
    if split is not None and split not in SPLITS:
        raise InputError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if workers is not None and workers < 0:
        raise InputError(f"workers must be at least 0, got {workers}")
    if not root.is_dir():
        raise InputError(f"{root}: not a folder; give the folder that holds DL_info.csv")
    table, problems = _read_rows(root / "DL_info.csv")
    if split_file is not None:
        table = table.with_splits(own_splits(split_file, table))
        table = table.take(table.column("split") > 0)
    if split is not None:
        table = table.take(table.column("split") == SPLITS[split])
    problems += check_rows(table)
    images = image_folder(root)
    wanted = list(_series(table, images))
    if wanted and not _has_slices(images, wanted):
        what = f"no slices in Images_png, Images_16bit... or {NIFTI}"
        problems.append(Problem("missing", "error", str(images), what))
        wanted = []

    key = _key(root, split, split_file, quick)
    clean = _known(earlier, key)
    slices = sum(clean.get(series.name, 0) for series in wanted)
    left = [series for series in wanted if series.name not in clean]
    saved = time.monotonic()

    def save() -> None:
        if state is not None:
            with atomic_write(state) as path:
                path.write_text(json.dumps({"key": key, "clean": clean}), encoding="utf-8")

    save()  # what earlier checks knew would be lost with their files
    try:
        with _checked(left, quick, workers) as results:
            for done, (name, count, found) in enumerate(results, len(wanted) - len(left) + 1):
                slices += count
                problems += found
                if not found:
                    clean[name] = count
                if time.monotonic() - saved > SAVE_SECONDS:
                    save()
                    saved = time.monotonic()
                if progress:
                    progress(done, len(wanted), f"{len(problems)} problems")
    finally:
        save()
    return Report(str(root), str(images), count_rows(table), len(wanted), slices, problems)


def _read_rows(path: Path) -> tuple[LesionTable, list[Problem]]:
    problems: list[Problem] = []

    def rows() -> Iterator:
        for row in scan_dl_info(path):
            if isinstance(row, InputError):
                problems.append(Problem("row", "error", path.name, str(row)))
            else:
                yield row

    return LesionTable(rows()), problems


def _series(table: LesionTable, images: Path) -> Iterator[Series]:
    volumes = NiftiVolumes(images) if images.name == NIFTI else None
    names, index = np.unique(series_of(table), return_inverse=True)
    by_series = np.argsort(index, kind="stable")
    bounds = np.searchsorted(index[by_series], np.arange(len(names) + 1))
    for number, name in enumerate(names.tolist()):
        rows = table.take(by_series[bounds[number] : bounds[number + 1]])
        ranges = tuple(sorted({tuple(r) for r in rows.column("slice_range").tolist()}))
        yield Series(
            name,
            ranges,
            tuple(sorted(set(rows.column("key_slice").tolist()))),
            rows[0].image_size,
            rows[0].spacing,
            images if volumes else images / name,
            find_volumes(volumes, name, ranges) if volumes else None,
        )


def _has_slices(images: Path, wanted: Sequence[Series]) -> bool:
    if images.name == NIFTI:
        return any(any(series.volumes) for series in wanted)
    return any(series.folder.is_dir() for series in wanted)


@contextmanager
def _checked(left: Sequence[Series], quick: bool, workers: int | None) -> Iterator[Iterator]:
    check = partial(check_series, quick=quick)
    if workers is None:
        workers = 0 if quick or len(left) < _FEW_SERIES else os.cpu_count() or 1
    if workers == 0 or not left:
        yield map(check, left)
        return
    with map_in_processes(check, left, workers, "use fewer with --workers") as results:
        yield results


def _key(
    root: Path, split: str | None, split_file: str | os.PathLike | None, quick: bool
) -> dict[str, object]:
    """What an earlier check must have in common with this one for its clean series to count."""
    tables = [root / "DL_info.csv", *([split_file] if split_file is not None else [])]
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in tables]
    return {"root": str(root.resolve()), "tables": digests, "split": split, "quick": quick}


def _known(earlier: Sequence[str | os.PathLike], key: Mapping[str, object]) -> dict[str, int]:
    clean: dict[str, int] = {}
    for path in earlier:
        try:
            known = json.loads(Path(path).read_text(encoding="utf-8"))
            if known["key"] == key:
                clean |= {str(name): int(count) for name, count in known["clean"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue  # nothing to go on with
    return clean
