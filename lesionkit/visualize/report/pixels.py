"""Slices in a page: HU as 8-bit codes, so that the page itself can apply any window."""

import base64
import io

import numpy as np

# 256 values in HU: fine where soft tissue is, coarse in air and bone. A slice of codes is a third
# of the size of one of HU, and a browser draws no more than 256 greys anyway.
LEVELS = np.concatenate(
    [np.arange(-1024, -160, 12), np.arange(-160, 260, 3), 260 + 30 * np.arange(44)]
)
_BETWEEN = (LEVELS[1:] + LEVELS[:-1]) / 2
PRECISION = "to 3 HU from -160 to 260 HU, to 12 HU below and 30 HU above, from -1024 to 1550 HU"


def encode(hu: np.ndarray) -> np.ndarray:
    """[H, W] uint8, of each pixel the place of the nearest of ``LEVELS``."""
    return np.searchsorted(_BETWEEN, hu).astype(np.uint8)


def shrink(hu: np.ndarray, side: int) -> np.ndarray:
    """[h, w] float32 with no side longer than ``side`` pixels; every pixel counts."""
    from PIL import Image

    hu = np.ascontiguousarray(hu, dtype=np.float32)
    scale = side / max(hu.shape)
    if scale >= 1:
        return hu
    size = tuple(max(1, round(length * scale)) for length in hu.shape[::-1])
    return np.asarray(Image.fromarray(hu).resize(size, Image.Resampling.BILINEAR))


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def slice_uri(hu: np.ndarray, side: int) -> tuple[str, tuple[int, int]]:
    """The codes of a slice [H, W] as a grey PNG, and its width and height in pixels."""
    from PIL import Image

    codes = encode(shrink(hu, side))
    stream = io.BytesIO()
    Image.fromarray(codes).save(stream, "PNG", optimize=True)
    return data_uri(stream.getvalue()), codes.shape[::-1]
