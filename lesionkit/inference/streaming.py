"""Searching a whole scan with one pass of the backbone for each image."""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch

from lesionkit.data.slice_grid import SliceGrid
from lesionkit.data.volume import CTVolume
from lesionkit.inference.detect import check_size, suppress
from lesionkit.models import LesionDetector
from lesionkit.models.streaming import ImageParts, image_parts, sample_candidates

Progress = Callable[[int, int], None]


def detect_volume(
    model: LesionDetector,
    volume: CTVolume,
    slices: Iterable[int] | None = None,
    batch_size: int = 4,
    progress: Progress | None = None,
) -> dict[float, dict[str, np.ndarray]]:
    """The lesions in a scan, from head to feet: place to detections as ``detect_sample`` has them.

    The scan is searched at the positions of its :class:`SliceGrid`, which the model's preprocessing
    sets 2 mm apart, whatever the distance of its own slices. A place counts in slices of the scan,
    an index into ``volume.hu`` that may lie between two slices.

    Args:
        model: in evaluation mode, on any device.
        volume: the scan.
        slices: indices into ``volume.hu``, integers of any kind, to search at and nearest to; all
            of them by default.
        batch_size, progress: as in :func:`detect_grid`.

    Raises:
        ValueError, TypeError: a slice is none of the scan.
        InputError: the pixels are not square, or the scan is too small for the network.
    """
    count = len(volume.hu)
    chosen = range(count) if slices is None else [operator.index(number) for number in slices]
    if wrong := [number for number in chosen if not 0 <= number < count]:
        raise ValueError(f"slices must be in 0..{count - 1} for this scan, got {wrong[0]}")
    grid = SliceGrid(volume, model.config.preprocessing)
    found = detect_grid(model, grid, grid.positions_of(chosen), batch_size, progress)
    return {grid.slice_of(position): detections for position, detections in found}


@torch.inference_mode()
def detect_grid(
    model: LesionDetector,
    grid: SliceGrid,
    positions: Sequence[int],
    batch_size: int = 4,
    progress: Progress | None = None,
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The lesions at positions of a scan's grid: pairs of position and detections.

    Detections are those of ``detect_sample`` for the sample around a position. What images give is
    kept as long as a later position needs it, so memory does not grow with the scan.

    Args:
        model: in evaluation mode, on any device.
        grid: the scan, resampled for the model's ``preprocessing``.
        positions: ascending, without repeats.
        batch_size: images that pass through the backbone together.
        progress: called with (positions done, positions in all).

    Raises InputError if the scan is too small for the network.
    """
    window = _Window(model, grid, batch_size)
    for done, position in enumerate(positions):
        parts = window.around(positions, done)
        found = sample_candidates(model, parts, window.size, grid.transform.scale)
        yield position, suppress(model, found, grid.transform)
        if progress:
            progress(done + 1, len(positions))


class _Window:
    """The parts of the images around the present position, and a few ahead of it."""

    def __init__(self, model: LesionDetector, grid: SliceGrid, batch_size: int) -> None:
        self._model, self._grid, self._batch_size = model, grid, batch_size
        self._device = next(model.parameters()).device
        self._parts: dict[int, ImageParts] = {}  # by the position of the image's middle slice
        self._slices: dict[int, np.ndarray] = {}
        # A key slice that is repeated makes M images of its own alone.
        self._neighbour = 1 if grid.preprocessing.slice_interval else 0
        image = self._image(0)
        check_size(model, image, grid.volume.source)
        self.size = tuple(image.shape[-2:])

    def around(self, positions: Sequence[int], index: int) -> list[ImageParts]:
        """The parts of the M images around ``positions[index]``; the next ones are read ahead."""
        centres = self._centres(positions[index])
        if missing := self._missing(centres, []):
            for position in positions[index + 1 : index + self._batch_size]:
                if len(missing) >= self._batch_size:
                    break
                missing += self._missing(self._centres(position), missing)
            self._forget(centres[0])
            for start in range(0, len(missing), self._batch_size):
                batch = missing[start : start + self._batch_size]
                images = torch.stack([self._image(centre) for centre in batch])
                parts = image_parts(self._model, images.to(self._device))
                self._parts.update(zip(batch, parts, strict=True))
        return [self._parts[centre] for centre in centres]

    def _centres(self, position: int) -> list[int]:
        count = self._model.config.num_images
        offsets = (3 * self._neighbour * (q - count // 2) for q in range(count))
        # Beyond the ends all slices are the last one, so all images there are one image.
        return [min(max(position + offset, -1), len(self._grid)) for offset in offsets]

    def _missing(self, centres: list[int], planned: list[int]) -> list[int]:
        return [c for c in dict.fromkeys(centres) if c not in self._parts and c not in planned]

    def _forget(self, first: int) -> None:
        """Let go of what lies before the images from ``first`` on."""
        self._parts = {c: parts for c, parts in self._parts.items() if c >= first}
        self._slices = {p: pixels for p, pixels in self._slices.items() if p >= first - 1}

    def _image(self, centre: int) -> torch.Tensor:
        positions = [centre + self._neighbour * offset for offset in (-1, 0, 1)]
        return torch.from_numpy(np.stack([self._slice(position) for position in positions]))

    def _slice(self, position: int) -> np.ndarray:
        position = min(max(position, 0), len(self._grid) - 1)
        if position not in self._slices:
            self._slices[position] = self._grid.pixels(position)
        return self._slices[position]
