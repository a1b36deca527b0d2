"""Which boxes learn what: matching to the true boxes and random sampling.

All boxes here are half-open.
"""

import torch
from torch import Tensor
from torchvision.ops import box_iou

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1


def match(
    truth: Tensor, boxes: Tensor, high: float, low: float, best_of_each: bool = False
) -> tuple[Tensor, Tensor]:
    """Label ``boxes`` [n, 4] by their overlap with ``truth`` [g, 4].

    Returns labels [n] (1 where the best IoU is >= ``high``, 0 where it is < ``low``, else -1) and
    the index [n] of the best true box. With ``best_of_each`` the best boxes of every true box are
    positive too, ties included, even where that IoU is below ``low``.
    """
    if len(truth) == 0 or len(boxes) == 0:
        none = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        return none, none
    iou = box_iou(truth, boxes)
    best, index = iou.max(dim=0)
    labels = torch.where(best < low, NEGATIVE, IGNORED)
    if best_of_each:
        # A true box that no box overlaps ties with all of them at IoU 0: torchvision's Matcher
        # and the original then call every box positive.
        best_of_truth = (iou == iou.amax(1, keepdim=True)) & (iou > 0)
        labels[best_of_truth.any(0)] = POSITIVE
    labels[best >= high] = POSITIVE
    return labels, index


def sample(
    labels: Tensor,
    count: int,
    positive_fraction: float,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Indices of at most ``count`` random boxes, rising: (positives, negatives).

    At most ``int(count * positive_fraction)`` are positives; negatives fill the rest. The choice
    is that of ``generator``, one of the CPU, or of torch's global one.
    """
    positive = (labels == POSITIVE).nonzero().squeeze(1)
    negative = (labels == NEGATIVE).nonzero().squeeze(1)
    positive = _choose(positive, int(count * positive_fraction), generator)
    return positive, _choose(negative, count - len(positive), generator)


def _choose(indices: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    # On the CPU whatever the device, so that every device chooses the same.
    chosen = torch.randperm(len(indices), generator=generator)[:count].sort().values
    return indices[chosen.to(indices.device)]
