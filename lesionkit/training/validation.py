"""How good weights are while they are trained: sensitivity at a rate of false positives."""

from collections.abc import Callable

import torch
from torch.utils.data import DataLoader, Subset

from lesionkit.evaluation import FrocResult, froc
from lesionkit.inference.detect import detect_sample
from lesionkit.inference.shards import gather, own_indices
from lesionkit.models import LesionDetector
from lesionkit.processes import allow_termination, hold_signals
from lesionkit.training.samples import Samples

SELECTION_FP = 4.0  # false positives per image at which weights are compared, as in 3DCE


def validate(
    model: LesionDetector,
    samples: Samples,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> FrocResult:
    """FROC at 4 false positives per image; leaves ``model`` in evaluation mode.

    Samples are prepared one by one, in ``workers`` processes, and let go. Each rank of a
    distributed training takes its part of them, and every rank has the result of all.
    """
    model.eval()
    own = own_indices(len(samples))
    loader = DataLoader(
        Subset(samples, own),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=allow_termination,
        generator=torch.Generator(),  # without one it draws from the global one
    )
    with hold_signals():  # here the workers start
        prepared = iter(loader)
    found = []
    for sample in prepared:
        boxes = detect_sample(model, sample.images, sample.transform, sample.source)
        found.append((boxes, sample.truth))
        if progress:
            progress(len(found), len(own))
    detections, truth = zip(*gather(found, len(samples)), strict=True)
    return froc(list(detections), list(truth), fp_per_image=(SELECTION_FP,))
