"""The detector as one graph of fixed shapes: what is exported.

It computes what ``LesionDetector`` computes in evaluation mode, from the same layers and the same
box arithmetic. Where the model drops boxes, the graph marks them, so that no shape but the batch
hangs on the data and nothing branches: TensorRT-RTX has neither NonMaxSuppression nor NonZero, and
an engine with either, or with a loop, cannot be captured into a CUDA graph. It runs in torch as it
stands. Of equal scores ONNX takes the first, as the model does; torch's and TensorRT's TopK promise
no order.
"""

import numpy as np
import torch
from torch import Tensor, nn

from lesionkit.models import LesionDetector
from lesionkit.models import boxes as box_ops
from lesionkit.models.boxes import Size

MAX_TOPK = 3840  # what TensorRT's TopK chooses at most
PORTION = 2000  # boxes that go through NMS at once: it compares all with all

NOT_FINITE, NOT_SETTLED = -1, -2  # in the place of a count


class DetectorGraph(nn.Module):
    """Preprocessed images [B, M, 3, H, W] of one ``size`` to boxes, scores and counts.

    Returns:
        boxes: [B, N, 4] float32, inclusive xyxy pixels, N = ``config.rpn_post_nms[1]``.
        scores: [B, N] float32, falling.
        count: [B] int32, how many rows are detections; the rest is zeros. NOT_FINITE for a sample
            whose numbers were not finite, where the model raises FloatingPointError; NOT_SETTLED
            where non-maximum suppression needs more rounds than the graph has.
    """

    def __init__(self, model: LesionDetector, size: Size) -> None:
        super().__init__()
        self.model = model
        self.size = size
        self.rounds = nms_rounds(size, model.rpn.stride, model.config.rpn_post_nms[1])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        model, config = self.model, self.model.config
        count = config.rpn_post_nms[1]
        features, anchor_logits, anchor_deltas = model.features(images)
        rois, is_roi, rois_settled = self._propose(anchor_logits, anchor_deltas)

        maps = model.head.position_maps(features)
        pooled = model.head.pool(maps, _numbered(box_ops.to_inclusive(rois), is_roi))
        logits, deltas = (t.unflatten(0, (-1, count)) for t in model.head.classify(pooled))
        boxes, scores, keep = model.head.candidates(logits, deltas, rois, self.size)

        scores, order = torch.where(keep & is_roi, scores, -1.0).topk(count)
        rows = torch.cat((_take(boxes, order), scores[..., None]), -1)
        rows, found, settled = self._best(rows, scores >= 0, config.nms_iou)
        finite = _is_finite(anchor_logits, anchor_deltas) & _is_finite(logits, deltas)
        number = torch.where(settled & rois_settled, found.sum(1, dtype=torch.int32), NOT_SETTLED)
        return (
            torch.where(found[..., None], box_ops.to_inclusive(rows[..., :4]), 0.0),
            torch.where(found, rows[..., 4], 0.0),
            torch.where(finite, number, NOT_FINITE),
        )

    def _propose(self, logits: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The rois [B, N, 4], half-open, which of them are real [B, N], and all settled [B].

        The best anchors go through NMS in portions, each behind the boxes that the portions before
        it have kept. These suppress first, as the better ones do in one go.
        """
        config = self.model.config
        boxes, scores, keep = self.model.rpn.candidates(
            logits, deltas, self.size, config.rpn_min_size
        )
        scores = torch.where(keep & (scores >= 0), scores, -1.0)
        scores, order = _sorted(scores, min(config.rpn_pre_nms[1], scores.shape[1]))
        rois, is_roi, settled = boxes[:, :0], keep[:, :0], []
        for better, score in zip(
            _take(boxes, order).split(PORTION, 1), scores.split(PORTION, 1), strict=True
        ):
            rois = torch.cat((rois, better), 1)
            is_roi = torch.cat((is_roi, score >= 0), 1)
            rois, is_roi, is_settled = self._best(rois, is_roi, config.rpn_nms_iou)
            settled.append(is_settled)
        return rois, is_roi, torch.stack(settled, 1).all(1)

    def _best(self, rows: Tensor, is_real: Tensor, iou: float) -> tuple[Tensor, Tensor, Tensor]:
        """The first N of ``rows`` [B, n, 4...], best first, that NMS keeps, which are real, and
        whether NMS is sure of these.

        Ranks stand for the scores, so that equal scores cannot change the order.
        """
        count = self.model.config.rpn_post_nms[1]
        if (padding := count - rows.shape[1]) > 0:
            rows = nn.functional.pad(rows, (0, 0, 0, padding))
            is_real = nn.functional.pad(is_real, (0, padding))
        ranks = torch.arange(rows.shape[1], 0, -1, device=rows.device, dtype=torch.float32)
        ranks = torch.where(is_real, ranks, 0.0)
        kept = suppress(rows[..., :4], ranks, iou, self.rounds)
        ranks, order = (ranks * (kept > 0).to(ranks.dtype)).topk(count)
        is_open = (kept.gather(1, order) == 0.5) & (ranks > 0)
        return _take(rows, order), ranks > 0, ~is_open.any(1)


def nms_rounds(size: Size, stride: int, count: int) -> int:
    """An even number of rounds for :func:`suppress`.

    The longest chains follow smooth scores across the image, from cell to cell. On ramps and equal
    scores of one anchor size they needed up to 98 rounds for the 64 cells of the longer side. No
    chain needs more than two rounds for each of the ``count`` boxes that are kept, and one.
    """
    return 2 * min(-(-max(size) // stride), count + 1)


def suppress(boxes: Tensor, ranks: Tensor, iou_threshold: float, rounds: int) -> Tensor:
    """Greedy NMS of half-open ``boxes`` [B, n, 4]: 1 for what is kept, 0 for what is dropped.

    Of ``ranks`` [B, n] a higher one is better; they differ, but for 0, which is no candidate and
    means nothing in the result. Round by round a box stays unless a better one that stays overlaps
    it by more than ``iou_threshold``. A round settles at least the best open box, and all whose
    better neighbours are settled. What is still open after ``rounds`` is 1/2: rounds that are even
    in number leave what may be kept, and the next one leaves what must be.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    area = (x2 - x1) * (y2 - y1)
    both = _shared(x1, x2) * _shared(y1, y2)
    # As torchvision has it, which compares with the threshold in double precision. The 0 / 0 of
    # padding compares false.
    overlap = both / (area[:, :, None] + area[:, None] - both)
    suppresses = (overlap > _round_down(iou_threshold)) & (ranks[:, :, None] > ranks[:, None])
    return settle(suppresses.to(ranks.dtype), rounds)


@torch.library.custom_op("lesionkit_deploy::settle", mutates_args=())
def settle(suppresses: Tensor, rounds: int) -> Tensor:
    """Who stays [B, n] after ``rounds`` and after one more, their mean.

    Row i of ``suppresses`` [B, n, n] tells whom i drops while it stays. One op, because PyTorch
    takes seconds to trace each hundred of them.
    """
    after = torch.ones_like(suppresses[:, :1])
    for _ in range(rounds + 1):
        before, after = after, (after @ suppresses < 0.5).to(after.dtype)
    return ((before + after) / 2)[:, 0].clone()


@settle.register_fake
def _(suppresses, rounds):
    return torch.empty_like(suppresses[:, 0])


def _shared(low: Tensor, high: Tensor) -> Tensor:
    """How much of an axis each two boxes of a sample share: [B, n] twice to [B, n, n]."""
    return (
        torch.minimum(high[:, :, None], high[:, None])
        - torch.maximum(low[:, :, None], low[:, None])
    ).clamp(min=0)


def _round_down(value: float) -> float:
    """The largest float32 that is not above ``value``."""
    nearest = np.float32(value)
    if float(nearest) > value:
        nearest = np.nextafter(nearest, np.float32(-np.inf))
    return float(nearest)


def _sorted(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best ``count`` of ``scores`` [B, n] and their places, in portions that TopK takes.

    Of equal scores ONNX defines that the first place wins, as in the model; torch and TensorRT say
    nothing about it.
    """
    found = []
    while count > 0:
        best, order = scores.topk(min(count, MAX_TOPK))
        found.append((best, order))
        count -= best.shape[1]
        if count > 0:
            scores = scores.scatter(1, order, -1.0)
    return tuple(torch.cat(parts, 1) for parts in zip(*found, strict=True))


def _take(rows: Tensor, order: Tensor) -> Tensor:
    """``rows`` [B, n, c] in the ``order`` [B, k] of each sample."""
    return rows.gather(1, order[..., None].expand(-1, -1, rows.shape[-1]))


def _numbered(boxes: Tensor, is_roi: Tensor) -> Tensor:
    """Boxes [B, N, 4] as rois [B * N, 5] with their sample's number; -1, which pools zeros, for
    those that are none."""
    sample = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
    sample = torch.where(is_roi, sample[:, None], -1.0)
    return torch.cat((sample[..., None], boxes), -1).flatten(0, 1)


def _is_finite(logits: Tensor, deltas: Tensor) -> Tensor:
    """For each sample [B]; NaN compares false."""
    numbers = torch.cat((logits.flatten(1), deltas.flatten(1)), 1).float()
    return (numbers.abs() <= torch.finfo(torch.float32).max).all(1)
