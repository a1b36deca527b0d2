"""Running a detector over samples: one, or those of a data set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lesionkit.data.deeplesion import DeepLesion
from lesionkit.data.preprocess import PixelTransform, Preprocessing, prepare_key_slice
from lesionkit.errors import InputError
from lesionkit.inference.shards import gather, own_indices
from lesionkit.models import LesionDetector
from lesionkit.models.boxes import nms_inclusive
from lesionkit.processes import allow_termination, hold_signals

Progress = Callable[[int, int], None]


@torch.inference_mode()
def detect_sample(
    model: LesionDetector, images: Tensor, transform: PixelTransform, source: str = "the scan"
) -> dict[str, np.ndarray]:
    """The lesions on the key slice of one prepared sample.

    Boxes are mapped to the slice's own pixels first and suppressed there (IoU 0.3), as 3DCE does
    (Yan et al. 2018, ``rcnn/core/tester.py``): one sample at a time, so that no detection depends
    on the padding of a batch.

    Args:
        model: in evaluation mode, on any device.
        images: [M, 3, h, w] from ``prepare_sample``.
        transform: the transform that came with it.
        source: what error messages call the scan.

    Returns:
        "boxes" [n, 4] float32 (xyxy, 0-based pixels of the slice, inclusive ends) and "scores"
        [n] float32 in 0..1, by falling score.

    Raises:
        InputError: the sample is too small for the network.
        ValueError, FloatingPointError: see :meth:`LesionDetector.forward`.
    """
    check_size(model, images, source)
    device = next(model.parameters()).device
    (found,) = model.candidates(images[None].to(device), [transform.scale])
    return suppress(model, found, transform)


def suppress(
    model: LesionDetector, found: Mapping[str, Tensor], transform: PixelTransform
) -> dict[str, np.ndarray]:
    """The candidates of one sample as :func:`detect_sample` gives them."""
    boxes = transform.to_original(found["boxes"])
    keep = nms_inclusive(boxes, found["scores"], model.config.nms_iou)
    return {
        "boxes": boxes[keep].float().cpu().numpy(),
        "scores": found["scores"][keep].float().cpu().numpy(),
    }


def check_size(model: LesionDetector, images: Tensor, source: str) -> None:
    """Raise InputError unless a prepared sample [M, 3, h, w] has a cell of the network's grid."""
    height, width = images.shape[-2:]
    least = model.backbone.stride
    if min(height, width) < least:
        spacing = model.config.preprocessing.pixel_spacing
        raise InputError(
            f"{source}: too small, {width} x {height} pixels after resizing to {spacing:g} mm a "
            f"pixel; the network needs {least} x {least} at least, {least * spacing:g} mm a side; "
            "check the scan's size and pixel spacing"
        )


def evaluate_dataset(
    model: LesionDetector,
    dataset: DeepLesion,
    progress: Progress | None = None,
    workers: int = 0,
) -> list[dict[str, np.ndarray]]:
    """:func:`detect_sample`'s result for each key-slice image of a DeepLesion data set, in order.

    With ``[record.boxes for record in dataset]`` this is what ``lesionkit.evaluation.froc`` takes.
    Where torch.distributed is initialised, each process takes its share of the images, and all get
    the results of all. The results do not depend on how many there are, nor on ``workers``.

    Args:
        model: in evaluation mode, on any device.
        dataset: the images.
        progress: called with (images done, images in all) of this process.
        workers: processes that read and prepare samples ahead; 0 does so in this one.
    """
    own = own_indices(len(dataset))
    samples = DataLoader(
        _Prepared(dataset, model.config.preprocessing),
        sampler=own,
        batch_size=None,
        num_workers=workers,
        worker_init_fn=allow_termination,
        generator=torch.Generator(),  # one that nobody else draws from
    )
    with hold_signals():  # here the workers start
        prepared = iter(samples)
    found = []
    for index, (images, transform) in zip(own, prepared, strict=True):
        found.append(detect_sample(model, images, transform, dataset[index].file_name))
        if progress:
            progress(len(found), len(own))
    return gather(found, len(dataset))


@dataclass(frozen=True)
class _Prepared(Dataset[tuple[Tensor, PixelTransform]]):
    """The samples of a data set, prepared when asked for."""

    dataset: DeepLesion
    preprocessing: Preprocessing

    def __getitem__(self, index: int) -> tuple[Tensor, PixelTransform]:
        return prepare_key_slice(self.dataset, self.dataset[index], self.preprocessing)

    def __len__(self) -> int:
        return len(self.dataset)
