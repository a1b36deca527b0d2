"""Result folders: complete or absent, and never at the cost of somebody's files."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lesionkit.errors import InputError
from lesionkit.files import atomic_write
from lesionkit.version import __version__

CONFIG = "config.json"
UNFINISHED = "unfinished"


def check_output(out: Path, overwrite: bool) -> None:
    """Raise InputError unless results may go to ``out``; for a check before long work."""
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"--out {out}: is a file; name a folder")
    if not any(out.iterdir()):
        return
    if not overwrite:
        raise InputError(f"--out {out}: is not empty; name another folder or add --overwrite")
    if not (_read_config(out) or _read_config(out / UNFINISHED)):
        raise InputError(
            f"--out {out}: was not written by lesionkit, so --overwrite leaves it alone; "
            "name another folder"
        )


@contextmanager
def result_folder(
    out: Path, overwrite: bool, config: Mapping[str, Any], keep_unfinished: bool = False
) -> Iterator[Path]:
    """Yield a folder to write into; what is in it becomes the content of ``out`` at the end.

    The folder is ``out/unfinished``. If the block succeeds, what an earlier run has written is
    removed (the files that its config.json lists, no others), the new files move in, and
    ``config.json`` says what made them. If the block raises, the folder is removed and ``out``
    stays as it was.

    Args:
        out: the result folder, new, empty, or with ``overwrite`` written by lesionkit.
        overwrite: whether earlier results may be replaced.
        config: what made the results, for config.json.
        keep_unfinished: leave the folder where it is after a failure that is no InputError.
    """
    check_output(out, overwrite)
    is_new = not out.exists()
    folder = out / UNFINISHED
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    config = {"lesionkit": __version__, **config}
    _write_config(folder, config, [])
    try:
        yield folder
        files = sorted(
            str(p.relative_to(folder).as_posix()) for p in folder.rglob("*") if p.is_file()
        )
        _write_config(folder, config, files)
        _replace(out, folder, files)
    except BaseException as error:
        if not keep_unfinished or isinstance(error, InputError):
            shutil.rmtree(folder, ignore_errors=True)
            if is_new:
                out.rmdir()
        raise


def _replace(out: Path, folder: Path, files: list[str]) -> None:
    old = _written(out)
    if foreign := [name for name in files if name not in old and os.path.lexists(out / name)]:
        raise InputError(
            f"--out {out}: holds a file {foreign[0]} that lesionkit did not write; move it away"
        )
    for name in old:
        (out / name).unlink(missing_ok=True)
    for parent in sorted({out / Path(name).parent for name in old}, reverse=True):
        while parent != out and parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
            parent = parent.parent
    for name in files:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder / name, out / name)
    shutil.rmtree(folder)


def _written(out: Path) -> set[str]:
    """The files in ``out`` that its config.json says lesionkit wrote."""
    inside = out.resolve()
    names = (_read_config(out) or {}).get("files", [])
    return {name for name in names if (out / name).parent.resolve().is_relative_to(inside)}


def _read_config(folder: Path) -> dict[str, Any] | None:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_ours = isinstance(config, dict) and {"lesionkit", "command", "files"} <= config.keys()
    return config if is_ours else None


def _write_config(folder: Path, config: Mapping[str, Any], files: list[str]) -> None:
    with atomic_write(folder / CONFIG) as path:
        path.write_text(json.dumps({**config, "files": files}, indent=1) + "\n", encoding="utf-8")
