"""A scan resampled along the patient, one slice at a time."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lesionkit.data.preprocess import (
    Crop,
    PixelTransform,
    Preprocessing,
    choose_crop,
    resize_scale,
    square_spacing,
    to_pixels,
)
from lesionkit.data.volume import CTVolume

_SNAP = 1e-6  # slices; a position this close to a slice is that slice


@dataclass(frozen=True, eq=False)
class SliceGrid:
    """The slices of a scan ``preprocessing.slice_interval`` mm apart, from head to feet.

    Position 0 is the slice of the scan that is closest to the head, and the last position the one
    at or before the other end. Between slices both neighbours are blended by their distances,
    whatever ``preprocessing.interpolation`` says: on a grid, "legacy" has no meaning. Neighbouring
    samples on the grid have images in common, as they have not around the scan's own slices unless
    these are evenly divided. An interval of 0 (repeat the key slice) means the scan's own slices.

    All slices are cut to one crop, that of the body on all slices of the scan.

    Raises InputError if the pixels are not square.
    """

    volume: CTVolume
    preprocessing: Preprocessing

    def __post_init__(self) -> None:
        square_spacing(self.volume.spacing, self.volume.source)

    def __len__(self) -> int:
        return math.floor((len(self.volume.hu) - 1) / self.step + _SNAP) + 1

    @property
    def step(self) -> float:
        """Slices of the scan from one position to the next."""
        return (self.preprocessing.slice_interval or self.interval) / self.interval

    @property
    def interval(self) -> float:
        """Millimetres between slices of the scan."""
        return self.volume.spacing[2]

    @property
    def _is_reversed(self) -> bool:
        return self.volume.direction[2, 2] > 0  # the slice axis rises towards the head

    @cached_property
    def crop(self) -> Crop:
        """Rows and columns of the body on all slices."""
        return choose_crop(self.volume.hu, self.volume.spacing[0], self.preprocessing)

    @cached_property
    def transform(self) -> PixelTransform:
        """From pixels of the scan's slices to those of :meth:`pixels`."""
        rows, columns = self.crop
        scale = resize_scale(self.crop, self.volume.spacing[0], self.preprocessing)
        return PixelTransform(scale, columns.start, rows.start)

    def hu(self, position: int) -> np.ndarray:
        """Slice [H, W] float32; beyond the ends the last one, as 3DCE repeats it."""
        at = min(max(position * self.step, 0.0), len(self.volume.hu) - 1.0)
        at = float(round(at)) if abs(at - round(at)) < _SNAP else at
        near, far = math.floor(at), math.ceil(at)
        hu = self._slice(near).astype(np.float32)
        if far > near:
            hu += np.float32(at - near) * (self._slice(far) - hu)
        return hu

    def pixels(self, position: int) -> np.ndarray:
        """Slice [h, w] float32 as the network sees it: windowed, cropped, resized, mean removed."""
        stack = self.hu(position)[self.crop][None].copy()
        return to_pixels(stack, self.transform.scale, self.preprocessing)[0]

    def slice_of(self, position: int) -> float:
        """Where a position is in ``volume.hu``; a fraction between two slices."""
        at = position * self.step
        return len(self.volume.hu) - 1 - at if self._is_reversed else at

    def positions_of(self, slices: Iterable[int]) -> list[int]:
        """Positions that stand for slices of the scan, ascending.

        Those that are nearest to one of them, and for each the position nearest to it.
        """
        last = len(self.volume.hu) - 1
        wanted = {last - number if self._is_reversed else number for number in slices}
        nearest = {min(round(number / self.step), len(self) - 1) for number in wanted}
        return sorted(nearest | {p for p in range(len(self)) if round(p * self.step) in wanted})

    def _slice(self, number: int) -> np.ndarray:
        return self.volume.hu[len(self.volume.hu) - 1 - number if self._is_reversed else number]
