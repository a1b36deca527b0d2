"""From CT slices to a network sample, and boxes there and back.

The steps and their order are those of 3DCE (Yan et al. 2018, ``rcnn/fio/load_ct_img.py`` and
``rcnn/fio/image.py``): 3M slices interpolated at a fixed distance around the key slice, window to
0..255, crop to the body, resize to a fixed pixel spacing, subtract the mean.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from lesionkit.data.resample import body_range, resize, slice_blends
from lesionkit.errors import InputError

if TYPE_CHECKING:
    from lesionkit.data.deeplesion import DeepLesion, KeySlice
    from lesionkit.data.volume import CTVolume

_LEAST_BODY = 30.0  # mm; a smaller crop is a piece of the table or a tube on a slice of air
_LEAST_INTERVAL = 1e-3  # mm; anything smaller is a unit error

ReadSlice = Callable[[int], np.ndarray | None]
Crop = tuple[slice, slice]  # rows, columns
Boxes = TypeVar("Boxes", np.ndarray, torch.Tensor)


@dataclass(frozen=True)
class Preprocessing:
    """The numbers of the pixel pipeline; JSON-able with ``dataclasses.asdict``.

    Args:
        num_images: M, images per sample, odd; a sample has 3M slices.
        slice_interval: mm between neighbouring slices of the sample; 0 repeats the key slice.
        pixel_spacing: mm per pixel after resizing.
        max_size: longest side of the resized sample in pixels; larger ones are shrunk to it.
        window: HU mapped to 0 and to 255; values outside are clipped.
        mean: subtracted after windowing, the same for all channels.
        interpolation: ``"exact"`` blends the two neighbours of every wanted position by its own
            distances. ``"legacy"`` does as the 3DCE code, which takes the weights of the first
            neighbour for all of them, so that at 5 mm the positions .4 .8 1.2 1.6 2.0 slices
            become .4 .4 1.4 1.4 2.0. Published numbers of 3DCE and its successors rest on it. The
            two differ in nothing else.
        crop: crop to the body seen on the key slice; the whole slice stays where that is less than
            30 mm wide or high, with ``"legacy"`` too, although the 3DCE code has no such rule.

    Raises:
        ValueError: a field is out of range; the message names it.
    """

    num_images: int = 3
    slice_interval: float = 2.0
    pixel_spacing: float = 0.8
    max_size: int = 512
    window: tuple[float, float] = (-1024.0, 3071.0)
    mean: float = 50.0
    interpolation: str = "exact"
    crop: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.window, list):  # as JSON gives it
            object.__setattr__(self, "window", tuple(self.window))
        images, size, window = self.num_images, self.max_size, self.window
        is_pair = isinstance(window, tuple) and len(window) == 2
        rising = is_pair and all(map(_is_finite, window)) and window[0] < window[1]
        odd = _is_int(images) and 0 < images < 100 and images % 2
        for name, valid, allowed in (
            ("num_images", odd, "an odd integer from 1 to 99"),
            ("slice_interval", _is_finite(self.slice_interval, 0), "a finite number of mm >= 0"),
            ("pixel_spacing", _is_positive(self.pixel_spacing), "a finite number of mm > 0"),
            ("max_size", _is_int(size) and size > 0, "an integer >= 1"),
            ("window", rising, "(low, high) in HU with low < high"),
            ("mean", _is_finite(self.mean), "a finite number"),
            ("interpolation", self.interpolation in ("exact", "legacy"), '"exact" or "legacy"'),
            ("crop", isinstance(self.crop, bool), "True or False"),
        ):
            if not valid:
                raise ValueError(f"{name} must be {allowed}, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class PixelTransform:
    """Where a sample's pixels lie in the slice it was cut from: crop at (left, top), then scale.

    As in 3DCE a box is shifted and scaled without the half-pixel of its inclusive ends, and it is
    not clipped.
    """

    scale: float
    left: int
    top: int

    def to_network(self, boxes: Boxes) -> Boxes:
        """Boxes [..., 4] xyxy from slice pixels to sample pixels; numpy or torch, type kept."""
        boxes, corner = self._prepare(boxes)
        return (boxes - corner) * self.scale

    def to_original(self, boxes: Boxes) -> Boxes:
        """Inverse of :meth:`to_network`."""
        boxes, corner = self._prepare(boxes)
        return boxes / self.scale + corner

    def _prepare(self, boxes: Boxes) -> tuple[Boxes, Boxes]:
        corner = (self.left, self.top, self.left, self.top)
        if isinstance(boxes, torch.Tensor):
            if not boxes.is_floating_point():
                boxes = boxes.to(torch.get_default_dtype())
            corner = torch.tensor(corner, dtype=boxes.dtype, device=boxes.device)
        else:
            boxes = np.asarray(boxes)
            if not np.issubdtype(boxes.dtype, np.floating):
                boxes = boxes.astype(np.float64)
            corner = np.array(corner, dtype=boxes.dtype)
        if boxes.ndim == 0 or boxes.shape[-1] != 4:
            raise ValueError(f"boxes must have shape [..., 4], got {tuple(boxes.shape)}")
        return boxes, corner


def prepare_sample(
    read_slice: ReadSlice,
    key: int,
    spacing: float,
    interval: float,
    preprocessing: Preprocessing,
    *,
    first: int | None = None,
    last: int | None = None,
    source: str = "the scan",
    crop: Crop | None = None,
) -> tuple[torch.Tensor, PixelTransform]:
    """The sample around one key slice.

    A slice that does not exist is replaced by the next one towards the key slice: this repeats
    the ends of a scan and bridges gaps. Every slice is read at most once.

    Args:
        read_slice: gives slice ``i`` as HU [H, W] (int16 or floating), or None where there is none.
        key: number of the key slice.
        spacing: mm between pixels, the same in x and y.
        interval: mm between neighbouring slices; unless it is a positive number (unknown, that
            is) the key slice is repeated 3M times.
        preprocessing: the numbers.
        first, last: if given, slices outside ``first..last`` do not exist and are not asked for.
        source: what error messages call the scan.
        crop: rows and columns to cut out, in place of the key slice's body.

    Returns:
        images: float32 [M, 3, h, w]. Slices run from the furthest previous to the furthest next;
            image q holds slices 3q..3q+2; the key slice is the middle channel of image (M-1)/2.
        transform: maps boxes between the key slice's pixels and the sample's.

    Raises:
        InputError: no key slice, slices of different shape, or a spacing that is not positive.
    """
    if not _is_positive(spacing):
        raise InputError(
            f"{source}: pixel spacing must be a positive number of mm, got {spacing}; "
            "correct it where the scan gives it"
        )
    if 0 < interval < _LEAST_INTERVAL:
        raise InputError(
            f"{source}: slices {interval} mm apart are not credible; correct the slice interval "
            "where the scan gives it, or set it to 0 if it is unknown"
        )
    slices = _Slices(read_slice, key, first, last, source)
    key_hu = slices.at(0)
    if crop is None:
        crop = choose_crop([key_hu], spacing, preprocessing)

    blends = slice_blends(
        3 * preprocessing.num_images,
        preprocessing.slice_interval,
        interval,
        legacy=preprocessing.interpolation == "legacy",
    )
    stack = np.empty((len(blends), *key_hu[crop].shape), np.float32)
    for plane, (near, far, weight) in zip(stack, blends, strict=True):
        plane[:] = slices.at(near)[crop]
        if weight > 0:
            plane += np.float32(weight) * (slices.at(far)[crop] - plane)

    scale = resize_scale(crop, spacing, preprocessing)
    stack = to_pixels(stack, scale, preprocessing)
    images = torch.from_numpy(stack).unflatten(0, (preprocessing.num_images, 3))
    return images, PixelTransform(scale, crop[1].start, crop[0].start)


def choose_crop(slices: Iterable[np.ndarray], spacing: float, preprocessing: Preprocessing) -> Crop:
    """The rows and columns of the body on slices [H, W] of HU, taken together."""
    ranges = []
    for hu in slices:
        height, width = hu.shape
        whole = top, bottom, left, right = 0, height - 1, 0, width - 1
        if preprocessing.crop:
            top, bottom, left, right = body_range(hu)
        if min(bottom - top, right - left) * spacing < _LEAST_BODY:
            top, bottom, left, right = whole
        ranges.append((top, bottom, left, right))
    top, bottom, left, right = zip(*ranges, strict=True)
    return slice(min(top), max(bottom) + 1), slice(min(left), max(right) + 1)


def resize_scale(crop: Crop, spacing: float, preprocessing: Preprocessing) -> float:
    """Pixels of the sample per pixel of a slice."""
    scale = float(spacing) / preprocessing.pixel_spacing
    longest = max(rows.stop - rows.start for rows in crop)
    return scale * min(1.0, preprocessing.max_size / (longest * scale))


def to_pixels(stack: np.ndarray, scale: float, preprocessing: Preprocessing) -> np.ndarray:
    """Planes [n, h, w] of HU, float32 and overwritten, as the network sees them."""
    low, high = preprocessing.window
    stack -= np.float32(low)
    stack *= np.float32(255 / (high - low))
    np.clip(stack, 0, 255, out=stack)
    stack = resize(stack, scale)
    stack -= np.float32(preprocessing.mean)
    return stack


def prepare_volume_sample(
    volume: "CTVolume", key: int, preprocessing: Preprocessing
) -> tuple[torch.Tensor, PixelTransform]:
    """:func:`prepare_sample` for slice ``key`` (0-based index into ``volume.hu``) of a CTVolume.

    The sample runs from head to feet whatever the order of the volume, as DeepLesion's slice
    numbers do, so that a detector sees every scan as it saw its training data.

    Raises:
        InputError: the pixels are not square.
        ValueError: ``key`` is not a slice of the volume.
    """
    count = len(volume.hu)
    if not 0 <= key < count:
        raise ValueError(f"key must be 0..{count - 1} for a scan of {count} slices, got {key}")
    spacing = square_spacing(volume.spacing, volume.source)
    feet_first = volume.direction[2, 2] > 0  # the slice axis rises towards the head
    return prepare_sample(
        (lambda number: volume.hu[count - 1 - number]) if feet_first else volume.hu.__getitem__,
        count - 1 - key if feet_first else key,
        spacing,
        volume.spacing[2],
        preprocessing,
        first=0,
        last=count - 1,
        source=volume.source,
    )


def prepare_key_slice(
    dataset: "DeepLesion", record: "KeySlice", preprocessing: Preprocessing
) -> tuple[torch.Tensor, PixelTransform]:
    """:func:`prepare_sample` for one record (KeySlice) of a DeepLesion data set.

    Raises:
        InputError: the key slice's file is missing, or the pixels are not square.
    """

    def read_slice(number: int) -> np.ndarray | None:
        raw = dataset.read_slice(record, number)
        return None if raw is None else raw.astype(np.float32) - 32768  # DeepLesion stores HU+32768

    return prepare_sample(
        read_slice,
        record.key_slice,
        square_spacing(record.spacing, record.file_name),
        record.spacing[2],
        preprocessing,
        source=record.file_name,
    )


class _Slices:
    """Slices by offset from the key slice; each is read once, missing ones are replaced."""

    def __init__(self, read: ReadSlice, key: int, first: int | None, last: int | None, source: str):
        self.key, self.source = key, source
        self._read = read
        self._first = -math.inf if first is None else first
        self._last = math.inf if last is None else last
        self._known: dict[int, np.ndarray | None] = {}
        hu = self._get(key)
        if hu is None:
            raise InputError(
                f"{source}: key slice {key} does not exist; give the folder that holds it"
            )
        if hu.ndim != 2 or 0 in hu.shape:
            raise InputError(f"{source}: slice {key} has shape {hu.shape}, expected [H, W]")
        self._shape = hu.shape

    def at(self, offset: int) -> np.ndarray:
        # Outside first..last every step towards the key is missing too, so jump to the end.
        number = int(min(max(self.key + offset, self._first), self._last))
        towards_key = 1 if offset < 0 else -1
        while (hu := self._get(number)) is None:
            number += towards_key
        if hu.shape != self._shape:
            raise InputError(
                f"{self.source}: slice {number} has shape {hu.shape} but key slice {self.key} has "
                f"{self._shape}; remove slices of another series"
            )
        return hu

    def _get(self, number: int) -> np.ndarray | None:
        if number not in self._known:
            inside = self._first <= number <= self._last
            self._known[number] = self._read(number) if inside else None
        return self._known[number]


def square_spacing(spacing: tuple[float, float, float], source: str) -> float:
    x, y = spacing[:2]
    if abs(x - y) > 1e-3 * max(abs(x), abs(y)):  # half a pixel over 512
        raise InputError(
            f"{source}: pixels are not square ({x} x {y} mm), and one scale serves both axes; "
            "resample the scan to square pixels first"
        )
    return x


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object, least: float = -math.inf) -> bool:
    return isinstance(value, int | float | np.number) and math.isfinite(value) and value >= least


def _is_positive(value: object) -> bool:
    return _is_finite(value) and value > 0
