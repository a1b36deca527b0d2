"""Files: written so that a reader never sees half of one, and what cannot be read."""

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lesionkit.errors import InputError


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path in ``path``'s folder; rename it to ``path`` if the block succeeds.

    The folder is made if needed. If the block raises, ``path`` stays as it was and the temporary
    file is removed. The suffix of ``path`` is kept, since writers choose formats by it. At the end
    both the content and the name are on the disk.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private; a result file is not
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def keep_former(path: Path, former: Path) -> Iterator[None]:
    """Rename what was at ``path`` before the block, which replaces it, to ``former``.

    If the block raises, ``former`` stays as it was too. At every moment there is a file at
    ``path``.
    """
    if not path.exists():
        yield
        return
    with atomic_write(former) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:  # not every file system has links
            shutil.copyfile(path, temporary)
        yield


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every file system can
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def reading(path: str | os.PathLike, remedy: str) -> Iterator[None]:
    """Raise InputError where ``path`` cannot be read, before the block or in it.

    Only files with a size are let through: pipes, devices and what the kernel shows below /proc
    may keep a reader waiting for ever. ``remedy`` ends the messages, such as "give an ONNX file".
    """
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path}: a pipe or a device; {remedy}")
        if found.st_size == 0:
            raise InputError(
                f"{path}: damaged (it is empty) or no file on a disk; copy or download it again, "
                f"or {remedy}"
            )
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); {remedy}") from None


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
