"""Result folders: complete or absent, and never at the cost of somebody's files.

A finished folder holds ``config.json``, which lists the files that the run wrote. Nothing else is
ever removed: what that list does not name stays.

A run works in ``unfinished``, locked while it lives. A killed run leaves that folder without a
list, so a later one of the same verb removes there what has the name of a file it writes itself, or
goes on in it where the verb can.
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from lesionkit.errors import InputError
from lesionkit.files import atomic_write
from lesionkit.version import __version__

CONFIG = "config.json"
UNFINISHED = "unfinished"
_UNFINISHED = re.compile(rf"{UNFINISHED}(-\d+)?")
_TEMPORARY = re.compile(r"(^|/)\.([^/]+)-[^/]{8}(\.[^/.]*)?$")  # what atomic_write makes on the way


def check_output(out: Path, overwrite: bool, command: str, names: Sequence[str]) -> None:
    """Raise InputError unless results may go to ``out``; for a check before long work.

    ``names`` are the files that the run of ``command`` will write, relative to ``out``; a part may
    be a pattern such as ``*.png``.
    """
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise InputError(f"--out {out}: is a file; name a folder")
    # What failed runs have left is in nobody's way.
    if any(not _is_unfinished(entry) for entry in out.iterdir()):
        if not overwrite:
            raise InputError(f"--out {out}: is not empty; name another folder or add --overwrite")
        _check_foreign(out, names, _written(out, command))


@contextmanager
def result_folder(
    out: Path,
    overwrite: bool,
    config: Mapping[str, Any],
    names: Sequence[str],
    keep_unfinished: bool = False,
    continues: bool = False,
    resume: Path | None = None,
) -> Iterator[Path]:
    """Yield a folder to write into; what is in it becomes the content of ``out`` at the end.

    The folder is ``out/unfinished``, or ``unfinished-2`` and so on beside those of failed runs.
    If the block succeeds, what an earlier run has written is removed (the files that its
    config.json lists, no others), the new files move in, and ``config.json`` says what made them.
    If the block raises, the folder is removed and ``out`` stays as it was.

    Args:
        out: the result folder: new, empty, left by failed runs, or with ``overwrite`` written by
            lesionkit.
        overwrite: whether earlier results, and what failed runs have left, may be replaced.
        config: what made the results, for config.json. "command" is the verb; only its own earlier
            results are replaced, so that detections never take the place of weights.
        names: the files that the block writes, see :func:`check_output`.
        keep_unfinished: keep the folder after a failure if there is anything in it; a note on the
            exception says where.
        continues: the run has taken over what earlier ones left (see :func:`left_behind`), so that
            goes at the end even without ``overwrite``.
        resume: the folder of a stopped run, of :func:`stopped_run`, to go on in.
    """
    command = config["command"]
    check_output(out, overwrite, command, names)
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    folder = resume or _new_folder(out)
    config = {"lesionkit": __version__, **config}
    try:
        with _locked(folder) as is_ours:
            if resume:
                if not is_ours:
                    raise InputError(f"{resume}: another process is at work in it")
                _remove_temporaries(folder, names)
            _write_config(folder, config, [])
            yield folder
            files = _files(folder)
            if strays := [name for name in files if not _is_announced(name, names)]:
                raise RuntimeError(f"the run wrote {strays[:3]}, which it did not announce")
            _write_config(folder, config, files)
            _replace(out, folder, files, overwrite, command, names, continues)
    except BaseException as error:
        written = [name for name in _files(folder) if name != CONFIG]
        if keep_unfinished and any((folder / name).stat().st_size for name in written):
            error.add_note(f"what was written so far is in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # not empty any more
                for parent in made:
                    parent.rmdir()
        raise


def stopped_run(out: Path, command: str, name: str) -> tuple[Path, dict[str, Any]] | None:
    """The folder in ``out`` where a run of ``command`` was stopped, and its config.json.

    ``name`` is the file that it goes on from; None if there is no such run. Raises InputError where
    there are several, or the run has finished.
    """
    if os.path.lexists(out / CONFIG):
        _finish_move(out, command)
        raise InputError(f"--out {out}: its run has finished, there is nothing to resume")
    found = [path.parent for path in left_behind(out, command, name)]
    if len(found) > 1:
        raise InputError(
            f"--out {out}: holds several stopped runs ({', '.join(f.name for f in found)}); move "
            "all but one away"
        )
    if not found:
        return None
    return found[0], json.loads((found[0] / CONFIG).read_text(encoding="utf-8"))


def _finish_move(out: Path, command: str) -> None:
    """Move what a run that was killed while its results moved has left behind."""
    _written(out, command)  # raises for what is not ours
    listed = json.loads((out / CONFIG).read_text(encoding="utf-8"))["files"]
    missing = {name for name in listed if not os.path.lexists(out / name)}
    for folder in [entry for entry in out.iterdir() if _UNFINISHED.fullmatch(entry.name)]:
        left = [] if folder.is_symlink() else _files(folder)
        if left and missing.issuperset(left):  # a run of its own has a config.json there
            for name in left:
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(folder / name, out / name)
            shutil.rmtree(folder)


def _remove_temporaries(folder: Path, names: Sequence[str]) -> None:
    """Remove what a killed run was writing."""
    for name in _files(folder):
        whole = _TEMPORARY.sub(r"\1\2\3", name)
        if whole != name and _is_announced(whole, names):
            (folder / name).unlink()


def left_behind(out: Path, command: str, name: str) -> list[Path]:
    """The files ``name`` in the folders of runs of ``command`` that failed or were killed."""
    folders = sorted(out.iterdir()) if out.is_dir() else ()
    paths = (folder / name for folder in folders if _is_unfinished(folder, command))
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def _new_folder(out: Path) -> Path:
    for number in count(1):
        folder = out / (UNFINISHED if number == 1 else f"{UNFINISHED}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            return folder


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Lock a folder if that can be; the system unlocks it when the process ends, however it does.

    Yields False if another process has locked it, or where there are no locks.
    """
    handle = os.open(folder, os.O_RDONLY)
    is_ours = False
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = True
        yield is_ours
    finally:
        os.close(handle)


def _files(folder: Path) -> list[str]:
    """The files inside, relative to ``folder``; no links, and nothing that links lead to."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _is_announced(name: str, patterns: Sequence[str]) -> bool:
    parts = name.split("/")
    return any(
        len(parts) == len(pattern) and all(map(fnmatchcase, parts, pattern))
        for pattern in (pattern.split("/") for pattern in (CONFIG, *patterns))
    )


def _replace(
    out: Path,
    folder: Path,
    files: list[str],
    overwrite: bool,
    command: str,
    names: Sequence[str],
    continues: bool,
) -> None:
    # Again, since another run may have come in between.
    finished = os.path.lexists(out / CONFIG)
    if finished and not overwrite:
        raise InputError(f"--out {out}: another run has put its results there meanwhile")
    old = _written(out, command) if finished else set()
    _check_foreign(out, names, old)
    _remove(out, old, [out / part for name in old for part in PurePosixPath(name).parents])
    if overwrite or continues:
        for entry in [entry for entry in out.iterdir() if _is_unfinished(entry, command)]:
            with _locked(entry) as is_left:  # not that of a run at work, such as this one
                if is_left:
                    _clear(entry, names)
    # The list goes first: should the process be killed here, the next one knows what is ours.
    for name in sorted(files, key=CONFIG.__ne__):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder / name, out / name)
    shutil.rmtree(folder)


def _clear(folder: Path, names: Sequence[str]) -> None:
    """Remove what a run that writes ``names`` has left in its unfinished folder."""
    ours = [n for n in _files(folder) if _is_announced(_TEMPORARY.sub(r"\1\2\3", n), names)]
    _remove(folder, ours, [folder, *(path for path in folder.rglob("*") if path.is_dir())])


def _remove(folder: Path, files: Iterable[str], folders: Iterable[Path]) -> None:
    """Remove files of ``folder``, and those of ``folders`` that are empty then."""
    for name in sorted(files, key=CONFIG.__eq__):  # the list goes last
        (folder / name).unlink(missing_ok=True)
    for parent in sorted(set(folders), reverse=True):
        with suppress(OSError):  # not empty
            parent.rmdir()


def _check_foreign(out: Path, names: Sequence[str], written: set[str]) -> None:
    """Raise InputError if a file that is not ``written`` is where the run will write."""
    for top in {out / name.partition("/")[0] for name in (CONFIG, *names)}:
        if not os.path.lexists(top):
            continue
        is_folder = top.is_dir() and not top.is_symlink()
        for path in top.rglob("*") if is_folder else [top]:
            name = path.relative_to(out).as_posix()
            if name not in written and (path.is_symlink() or not path.is_dir()):
                raise InputError(
                    f"--out {out}: holds {name}, which lesionkit did not write; move it away or "
                    "name another folder"
                )


def _is_unfinished(path: Path, command: str | None = None) -> bool:
    """Whether it is the folder of a run that failed, of ``command`` if that is given."""
    if not _UNFINISHED.fullmatch(path.name) or path.is_symlink():
        return False
    try:
        _written(path, command)
    except InputError:
        return False
    return True


def _written(folder: Path, command: str | None = None) -> set[str]:
    """The files in ``folder`` that lesionkit wrote there: those that its config.json lists.

    What it lists beside them is nothing to us. Raises InputError unless that file is lesionkit's,
    and unless ``command`` wrote it if that is given.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        config = None
    is_ours = isinstance(config, dict) and all(
        isinstance(config.get(key), kind)
        for key, kind in (("lesionkit", str), ("command", str), ("files", list))
    )
    if not is_ours:
        raise InputError(
            f"--out {folder}: was not written by lesionkit (its config.json does not say so), so "
            "--overwrite leaves it alone; name another folder"
        )
    if command not in (None, config["command"]):
        raise InputError(
            f"--out {folder}: holds what `lesionkit {config['command']}` wrote, and --overwrite "
            f"replaces only what `lesionkit {command}` wrote; name another folder"
        )
    return {name for name in config["files"] if isinstance(name, str)} & set(_files(folder))


def _write_config(folder: Path, config: Mapping[str, Any], files: list[str]) -> None:
    with atomic_write(folder / CONFIG) as path:
        path.write_text(json.dumps({**config, "files": files}, indent=1) + "\n", encoding="utf-8")
