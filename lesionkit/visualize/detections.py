"""Pictures of what a run found, as Fig. 4 and 5 of Tao et al. 2019."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lesionkit.errors import InputError
from lesionkit.visualize.overlay import draw_boxes
from lesionkit.visualize.results import DatasetRun, ScanRun, own_window
from lesionkit.visualize.windows import Window, describe, window_range

if TYPE_CHECKING:
    from PIL import Image

COLUMNS = 3
_WIDTH, _GAP = 1200, 8  # pixels of the whole, and around a picture


def draw_images(
    found: DatasetRun,
    chosen: Sequence[int] = (),
    most: int = 9,
    threshold: float | None = None,
    window: Window | None = None,
) -> "list[Image.Image]":
    """Images of a data set with truth, hits and false positives.

    Args:
        found: the data set and the boxes.
        chosen: which images; by default the first.
        most: how many pictures.
        threshold: least score; by default the one of one false positive an image.
        window: by default each image's own DICOM window, else soft tissue.
    """
    chosen = list(chosen or range(len(found.dataset)))[:most]
    if not chosen:
        raise InputError(f"{found.dataset.root}: has no lesions to show")
    if found.detections is not None and threshold is None:
        threshold = found.threshold()
    drawn = []
    for place in chosen:
        record, boxes = found.dataset[place], None
        if found.detections is not None:
            boxes = found.detections[place]
            boxes = boxes[boxes[:, 4] >= threshold]
        hu = found.hu(record)
        shown = window_range(window or own_window(record) or "soft tissue")
        title = f"{record.file_name}, {describe(shown)}"
        scale = _scale(hu.shape, len(chosen))
        drawn.append(draw_boxes(hu, record.boxes, boxes, window=shown, title=title, scale=scale))
    return drawn


def draw_slices(
    found: ScanRun,
    chosen: Sequence[int] = (),
    most: int = 9,
    truth: Mapping[int, np.ndarray] | None = None,
    threshold: float | None = None,
    window: Window | None = None,
) -> "list[Image.Image]":
    """Slices of a scan with the boxes found, and the truth where it is known.

    Args:
        found: the scan and the boxes.
        chosen: which slices; by default those of the best boxes, or the middle one without boxes.
        most: how many pictures.
        truth: boxes [g, 4] by slice; slices that are left out have no lesion.
        threshold: least score; by default all boxes.
        window: soft tissue by default.
    """
    best = dict.fromkeys(detection["slice"] for detection in found.report["detections"])
    chosen = list(chosen or best or [len(found.volume.hu) // 2])[:most]
    shown = window_range(window or "soft tissue")
    drawn = []
    for number in chosen:
        boxes = found.boxes(number)
        drawn.append(
            draw_boxes(
                found.volume.hu[number],
                None if truth is None else truth.get(number, []),
                boxes[boxes[:, 4] >= (threshold or 0)],
                window=shown,
                title=f"slice {number}, {describe(shown)}",
                scale=_scale(found.volume.hu.shape[1:], len(chosen)),
            )
        )
    return drawn


def _scale(shape: tuple[int, ...], pictures: int) -> float:
    """That makes all pictures together as wide as they are to be."""
    return (_WIDTH / min(COLUMNS, pictures) - _GAP) / max(shape)
