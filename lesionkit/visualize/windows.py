"""Windows of Hounsfield units: which part of CT's range a picture shows."""

import math

import numpy as np

Window = str | tuple[float, float]

# Level and width in HU, as scanners' presets have them.
WINDOWS = {"lung": (-600, 1500), "soft tissue": (50, 400), "bone": (400, 1800)}


def window_range(window: Window) -> tuple[float, float]:
    """The HU shown black and white, of a preset's name or of (low, high) itself.

    Presets are "lung" (-1350 to 150 HU), "soft tissue" or "soft-tissue" (-150 to 250) and "bone"
    (-500 to 1300). Raises ValueError for any other name, and unless low < high.
    """
    if isinstance(window, str):
        name = window.replace("-", " ")
        if name not in WINDOWS:
            raise ValueError(f"window must be one of {sorted(WINDOWS)}, got {window!r}")
        level, width = WINDOWS[name]
        return level - width / 2, level + width / 2
    low, high = window
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"window must be (low, high) in HU with low < high, got {window}")
    return float(low), float(high)


def parse_window(text: str) -> tuple[float, float]:
    """The range of a preset's name, or of "LOW,HIGH" in HU. Raises ValueError for other text."""
    if text.replace("-", " ") in WINDOWS:
        return window_range(text)
    try:
        low, high = (float(part) for part in text.split(","))
        return window_range((low, high))
    except ValueError:
        raise ValueError(
            "must be lung, soft-tissue, bone, or LOW,HIGH in HU with LOW < HIGH, such as "
            f"-150,250; got {text!r}"
        ) from None


def describe(window: tuple[float, float]) -> str:
    """ "-150 to 250 HU", with the preset's name before it where it is one."""
    low, high = window
    named = [name for name in WINDOWS if window_range(name) == (low, high)]
    return " ".join([*named, f"{low:g} to {high:g} HU"])


def to_grey(hu: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """HU of any shape as uint8: the low end and what is below it (NaN too) 0, the high end 255."""
    low, high = window
    grey = (np.nan_to_num(hu.astype(np.float32), nan=low) - low) / (high - low)
    return (255 * grey.clip(0, 1)).round().astype(np.uint8)
