"""The bytes behind an image file's pixels: where they are, and whether they are whole.

SimpleITK makes up what a damaged compressed stream lacks, or reads on with wrong voxels, so the
streams are inflated here first: zlib and gzip both carry a checksum.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lesionkit.errors import InputError

if TYPE_CHECKING:
    from SimpleITK import ImageFileReader

_PIECE = 1 << 20
_GZIP = b"\x1f\x8b"


def volume_bytes(reader: "ImageFileReader") -> int:
    """The bytes that the voxels of a file take once they are inflated."""
    from SimpleITK import Image

    columns, rows, slices = reader.GetSize()
    component = Image([1, 1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
    return columns * rows * slices * component


def data_file(header: Path, name: str) -> Path:
    """The file that a header names for its pixels, in the header's own folder or one below it.

    A header from elsewhere must not make this machine read any of its files as pixels. Links in
    that folder are followed: whoever put them there chose them.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith(("/", "~", "\\")) or ".." in parts or ":\\" in name:
        raise InputError(
            f"{header}: names {name!r} for its pixels, which is not in its own folder; move that "
            "file beside the header and write its bare name there"
        )
    path = header.parent / name
    if not path.is_file():
        raise InputError(
            f"{header}: {path}, which it names for its pixels, is missing; put it there"
        )
    return path


def check_raw(path: Path, have: int, need: int) -> None:
    """Raise InputError unless a file holds exactly the bytes of its voxels."""
    if have < need:
        raise InputError(f"{path}: {have} bytes of {need}; the file is truncated")
    if have > need:
        raise InputError(
            f"{path}: {have} bytes of pixels, but its header's sizes make {need}; the header is "
            "wrong or the file is corrupt"
        )


def check_packed(path: Path, need: int, start: int = 0, length: int | None = None) -> None:
    """Raise InputError unless a zlib or gzip stream is whole and holds exactly ``need`` bytes."""
    have = 0
    for piece in inflate(path, start, length):
        have += len(piece)
        if have > need:
            raise InputError(
                f"{path}: inflates to more than the {need} bytes that its header's sizes make; "
                "the header is wrong or the file is corrupt"
            )
    check_raw(path, have, need)


def inflate(path: Path, start: int = 0, length: int | None = None) -> Iterator[bytes]:
    """What a zlib stream, or gzip members one after another, hold, in pieces of at most 1 MiB.

    They begin at byte ``start`` and take ``length`` bytes of the file (default: all the rest).

    Raises:
        InputError: the stream is damaged or ends too early.
    """
    with open(path, "rb") as stream:
        stream.seek(start)
        left = path.stat().st_size - start if length is None else length

        def more() -> bytes:
            nonlocal left
            piece = stream.read(min(left, _PIECE))
            left -= len(piece)
            return piece

        try:
            packed = more()
            while True:
                is_gzip = packed.startswith(_GZIP)
                # 32: a zlib and a gzip header are told apart.
                member = zlib.decompressobj(32 + zlib.MAX_WBITS)
                while not member.eof:
                    packed = packed or more()
                    piece = member.decompress(packed, _PIECE)
                    if piece:
                        yield piece
                    elif not packed and not member.eof:
                        raise InputError(
                            f"{path}: its compressed pixels end too early; the file is truncated"
                        )
                    packed = member.unconsumed_tail
                packed = member.unused_data + more()
                if not (is_gzip and packed.startswith(_GZIP)):
                    return
        except zlib.error as error:
            raise InputError(f"{path}: {error}; the file is truncated or corrupt") from error
