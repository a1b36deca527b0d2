"""The two losses that both stages of 3DCE use (``rcnn/symbol/symbol_vgg.py``)."""

import torch.nn.functional as F
from torch import Tensor

from lesionkit.models.ranks import mean_over_ranks


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax cross entropy of ``logits`` [n, 2] and ``labels`` [n], averaged; 0 when n is 0.

    In a distributed training the sum over these is divided by the mean n of the ranks.
    """
    total = F.cross_entropy(logits.float(), labels, reduction="sum")
    return total / mean_over_ranks(len(labels), logits.device)


def box_loss(deltas: Tensor, targets: Tensor, sigma: float, count: int) -> Tensor:
    """Smooth L1 of ``deltas`` and ``targets`` [n, 4], summed and divided by ``count``.

    Quadratic below 1 / sigma^2: MXNet's ``smooth_l1(scalar=sigma)``.
    """
    return F.smooth_l1_loss(deltas.float(), targets, reduction="sum", beta=sigma**-2) / count
