"""Box arithmetic of 3DCE on torchvision's operators.

Outside the model a box is inclusive: ``[x1, y1, x2, y2]``, 0-based pixels, the pixel x2 belongs to
it and its width is ``x2 - x1 + 1`` (3DCE ``rcnn/processing/bbox_transform.py``). Inside the model
the same box is half-open, ``[x1, y1, x2 + 1, y2 + 1)``: its width is the plain difference, so that
torchvision's ``BoxCoder``, ``box_iou`` and ``nms`` compute exactly the original's "+1" formulas.
"""

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import nms

Size = tuple[int, int]  # height, width


def to_half_open(boxes: Tensor) -> Tensor:
    """Inclusive boxes [..., 4] as half-open ones."""
    return torch.cat((boxes[..., :2], boxes[..., 2:] + 1), dim=-1)


def to_inclusive(boxes: Tensor) -> Tensor:
    """Half-open boxes [..., 4] as inclusive ones."""
    return torch.cat((boxes[..., :2], boxes[..., 2:] - 1), dim=-1)


def encode(truth: Tensor, boxes: Tensor) -> Tensor:
    """Targets (dx, dy, dw, dh) [n, 4] that move half-open ``boxes`` [n, 4] onto ``truth`` [n, 4].

    Not normalised, as in 3DCE (BBOX_NORMALIZE_TARGETS False).
    """
    return _coder.encode_single(truth, boxes)


def decode(deltas: Tensor, boxes: Tensor) -> Tensor:
    """Half-open ``boxes`` [..., 4] moved by ``deltas`` [..., 4], to which they broadcast.

    Unlike the original, dw and dh are limited to log(1000 / 16), so that no side overflows.
    """
    boxes = boxes.expand_as(deltas)
    return _coder.decode_single(deltas.reshape(-1, 4), boxes.reshape(-1, 4)).reshape(deltas.shape)


_coder = BoxCoder((1.0, 1.0, 1.0, 1.0))


def clip(boxes: Tensor, size: Size) -> Tensor:
    """Half-open ``boxes`` [..., 4] cut to an image of ``size`` (height, width).

    A box outside the image becomes one pixel on its edge, as inclusive clipping makes it. NaN
    stays NaN.
    """
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack(
        (x1.clamp(0, width - 1), y1.clamp(0, height - 1), x2.clamp(1, width), y2.clamp(1, height)),
        dim=-1,
    )


def nms_inclusive(boxes: Tensor, scores: Tensor, iou_threshold: float = 0.3) -> Tensor:
    """Greedy non-maximum suppression of inclusive boxes.

    ``boxes`` [n, 4] and ``scores`` [n]; returns the kept indices by falling score. A box is dropped
    when its IoU with a better kept one exceeds ``iou_threshold`` (3DCE ``rcnn/processing/nms.py``).
    """
    return nms(to_half_open(boxes), scores, iou_threshold)


def first_after_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, count: int) -> Tensor:
    """The first ``count`` indices that greedy suppression of half-open boxes keeps.

    ``scores`` [n] fall. What is kept among the best boxes does not depend on the others, so most
    of them are never compared: torchvision's time grows with the square of their number.
    """
    size = 2 * count
    while len(keep := nms(boxes[:size], scores[:size], iou_threshold)) < count:
        if size >= len(boxes):
            break
        size *= 2
    return keep[:count]
