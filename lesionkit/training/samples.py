"""Prepared samples to train on, from DeepLesion or from marked slices of one scan."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from lesionkit.data.deeplesion import DeepLesion
from lesionkit.data.preprocess import (
    PixelTransform,
    Preprocessing,
    prepare_key_slice,
    prepare_volume_sample,
)
from lesionkit.data.volume import CTVolume
from lesionkit.training.config import TrainingConfig


@dataclass(frozen=True, eq=False)
class Sample:
    """One key slice, ready for the network.

    images: [M, 3, h, w] float32. boxes: [g, 4] float32 in pixels of ``images``, those that lie at
    least partly on them. transform: between those and the slice's own pixels. truth: [g, 4] all
    boxes, in the slice's own pixels. source: what error messages call the slice's scan.
    """

    images: Tensor
    boxes: Tensor
    transform: PixelTransform
    truth: np.ndarray
    source: str = "the scan"


class Samples(Dataset[Sample]):
    """``count`` samples made by ``prepare(index)``; :meth:`preload` keeps as many as fit.

    For worker processes ``prepare`` must be picklable. ``annotations`` is a digest of what is
    marked where, by which a run that is resumed tells whether it has been edited.
    """

    def __init__(self, count: int, prepare: Callable[[int], Sample], annotations: str = "") -> None:
        self._prepare = prepare
        self.annotations = annotations
        self._kept: list[Sample | None] = [None] * count

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Sample:
        return self._kept[index] or self._prepare(index)

    def preload(self, max_bytes: float, progress: Callable[[int, int], None] | None = None) -> int:
        """Prepare and keep samples, in order, until they fill ``max_bytes``; returns how many."""
        used = 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            # In pieces, so that no more than a piece is prepared beyond what may be kept.
            for start in range(0, len(self), 32):
                piece = range(start, min(start + 32, len(self)))
                for index, sample in zip(piece, pool.map(self._prepare, piece), strict=True):
                    used += sample.images.nbytes
                    if used > max_bytes:
                        return index
                    self._kept[index] = sample
                    if progress:
                        progress(index + 1, len(self))
        return len(self)


def deeplesion_samples(dataset: DeepLesion, preprocessing: Preprocessing) -> Samples:
    """The key-slice images of a DeepLesion data set."""

    fields = ("file_name", "box", "split", "key_slice", "slice_range", "spacing")
    table = dataset.lesions
    annotations = _digest({name: table.column(name) for name in fields})
    return Samples(len(dataset), partial(_of_dataset, dataset, preprocessing), annotations)


def scan_samples(
    volume: CTVolume, boxes: Mapping[int, np.ndarray], preprocessing: Preprocessing
) -> Samples:
    """Slices of one scan, with the boxes [g, 4] of each: slice index to pixels."""
    marked = [(key, boxes[key]) for key in sorted(boxes)]
    annotations = _digest({str(key): key_boxes for key, key_boxes in marked})
    return Samples(len(marked), partial(_of_scan, volume, marked, preprocessing), annotations)


def _digest(columns: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of arrays and their names, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name, column in columns.items():
        text = column.dtype.kind == "U"  # whose bytes depend on the longest
        content = "\n".join(column.tolist()).encode() if text else column.tobytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _of_dataset(dataset: DeepLesion, preprocessing: Preprocessing, index: int) -> Sample:
    record = dataset[index]
    images, transform = prepare_key_slice(dataset, record, preprocessing)
    return _sample(images, transform, record.boxes, record.file_name)


def _of_scan(
    volume: CTVolume,
    marked: Sequence[tuple[int, np.ndarray]],
    preprocessing: Preprocessing,
    index: int,
) -> Sample:
    key, boxes = marked[index]
    return _sample(*prepare_volume_sample(volume, key, preprocessing), boxes, volume.source)


def _sample(images: Tensor, transform: PixelTransform, truth: np.ndarray, source: str) -> Sample:
    boxes = torch.from_numpy(transform.to_network(truth).astype(np.float32))
    # The crop to the body may leave a box outside.
    return Sample(images, boxes[_on_image(boxes, images)], transform, truth, source)


def _on_image(boxes: Tensor, images: Tensor) -> Tensor:
    """Whether at least part of a pixel of each inclusive box [g, 4] is on the images."""
    size = torch.tensor([images.shape[-1], images.shape[-2]])
    return ((boxes[:, :2] < size) & (boxes[:, 2:] > -1)).all(1)


class Augmented(Dataset[Sample]):
    """Samples as a training run sees them: mirrored and moved at random.

    The chance depends on the seed, ``epoch`` and the index alone, whatever the order or the
    worker. Moved images keep their size: zeros, the mean, come in at the left and the top, and
    what leaves at the right and the bottom is cut off, boxes too. An image moves by half its side
    at most.
    """

    def __init__(self, samples: Samples, config: TrainingConfig) -> None:
        self.samples = samples
        self.config = config
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng((self.config.seed, self.epoch, index))
        sample = self.samples[index]
        images, boxes = sample.images, sample.boxes
        if self.config.flip and rng.random() < 0.5:
            images = images.flip(-1)
            x1, y1, x2, y2 = boxes.unbind(1)
            right = images.shape[-1] - 1
            boxes = torch.stack((right - x2, y1, right - x1, y2), dim=1)
        if self.config.shift:
            height, width = images.shape[-2:]
            most = [min(self.config.shift, side // 2) for side in (width, height)]
            dx, dy = rng.integers(0, most, endpoint=True).tolist()
            images = F.pad(images, (dx, -dx, dy, -dy))
            last = torch.tensor([width - 1, height - 1])
            moved = boxes + torch.tensor([dx, dy, dx, dy])
            moved = moved[(moved[:, :2] <= last).all(1)]
            boxes = torch.cat((moved[:, :2], moved[:, 2:].minimum(last)), dim=1)
        return replace(sample, images=images, boxes=boxes)
