"""The region proposal network on the key image (3DCE ``rcnn/symbol/symbol_vgg.py``)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lesionkit.models import boxes as box_ops
from lesionkit.models.anchors import base_anchors, grid_anchors
from lesionkit.models.boxes import Size
from lesionkit.models.checks import check_computed
from lesionkit.models.config import DetectorConfig
from lesionkit.models.losses import box_loss, class_loss
from lesionkit.models.sampling import match, sample


class RegionProposalNetwork(nn.Module):
    """A 3x3 convolution, then class and box layers per anchor.

    All boxes are half-open pixels. ``sizes`` are (height, width) of each sample without its
    padding; anchors sit on the ``height // stride`` x ``width // stride`` cells of the real image.

    torch.compile skips the steps whose shapes hang on the data, here and in the head: compiled,
    they would only be cut into dozens of small graphs.
    """

    def __init__(self, config: DetectorConfig, in_channels: int, stride: int) -> None:
        super().__init__()
        self.config = config
        self.stride = stride
        anchors = base_anchors(stride, config.anchor_ratios, config.anchor_scales)
        self.register_buffer("anchors", anchors, persistent=False)
        self.conv = nn.Conv2d(in_channels, config.rpn_channels, 3, padding=1)
        self.classes = nn.Conv2d(config.rpn_channels, 2 * len(anchors), 1)
        self.boxes = nn.Conv2d(config.rpn_channels, 4 * len(anchors), 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, D, H, W] to class logits [B, 2A, H, W] and box deltas [B, 4A, H, W].

        The first A class channels are background, as in 3DCE.
        """
        x = F.relu(self.conv(features))
        return self.classes(x), self.boxes(x)

    @torch.compiler.disable
    @torch.no_grad()
    def propose(
        self, logits: Tensor, deltas: Tensor, sizes: Sequence[Size], scales: Sequence[float]
    ) -> list[Tensor]:
        """The best boxes [n, 4] of each sample, without gradient.

        Unlike 3DCE, fewer than the wanted number are not padded with repeats.
        """
        config = self.config
        if not self.training:
            check_computed("proposals", logits, deltas)
        mode = 0 if self.training else 1
        proposals = []
        for b, size in enumerate(sizes):
            least = config.rpn_min_size * scales[b]
            boxes, scores, keep = self.candidates(logits[b], deltas[b], size, least)
            boxes, scores = boxes[keep], scores[keep]
            # Air is full of equal scores, of which topk would choose other ones on every device.
            scores, best = scores.sort(descending=True, stable=True)
            best = best[: config.rpn_pre_nms[mode]]
            boxes, scores = boxes[best], scores[: len(best)]
            most = config.rpn_post_nms[mode]
            keep = box_ops.first_after_nms(boxes, scores, config.rpn_nms_iou, most)
            proposals.append(boxes[keep])
        return proposals

    def candidates(
        self, logits: Tensor, deltas: Tensor, size: Size, least_side: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Every anchor's box [..., n, 4], its score [..., n] and whether it is large enough.

        For one sample, logits [2A, H, W] and deltas [4A, H, W], or for several of one ``size``.
        """
        anchors, logits, deltas = self._on_grid(logits, deltas, size)
        scores = logits.softmax(-1)[..., 1]
        boxes = box_ops.clip(box_ops.decode(deltas, anchors), size)
        sides = boxes[..., 2:] - boxes[..., :2]
        # A NaN side compares false, so that broken boxes end here; the loss tells.
        return boxes, scores, (sides >= least_side).all(-1)

    @torch.compiler.disable
    def losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        sizes: Sequence[Size],
        truth: Sequence[Tensor],
        generators: Sequence[torch.Generator | None] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The class and box loss over anchors sampled from each sample's ``truth`` [g, 4]."""
        config = self.config
        generators = generators or [None] * len(sizes)
        chosen = [[], [], [], []]
        for b, size in enumerate(sizes):
            anchors, anchor_logits, anchor_deltas = self._on_grid(logits[b], deltas[b], size)
            height, width = size
            limits = anchors.new_tensor([width, height])
            inside = ((anchors[:, :2] >= 0) & (anchors[:, 2:] <= limits)).all(1)
            inside = inside.nonzero().squeeze(1)
            labels, index = match(
                truth[b],
                anchors[inside],
                config.rpn_positive_iou,
                config.rpn_negative_iou,
                best_of_each=True,
            )
            positive, negative = sample(
                labels, config.rpn_batch, config.rpn_positive_fraction, generators[b]
            )
            both = torch.cat((positive, negative))
            targets = box_ops.encode(truth[b][index[positive]], anchors[inside[positive]])
            chosen[0].append(anchor_logits[inside[both]])
            chosen[1].append(labels[both])
            chosen[2].append(anchor_deltas[inside[positive]])
            chosen[3].append(targets)
        anchor_logits, labels, anchor_deltas, targets = map(torch.cat, chosen)
        return (
            class_loss(anchor_logits, labels),
            box_loss(anchor_deltas, targets, sigma=3, count=config.rpn_batch * len(sizes)),
        )

    def _on_grid(self, logits: Tensor, deltas: Tensor, size: Size) -> tuple[Tensor, Tensor, Tensor]:
        """Anchors [n, 4], logits [..., n, 2] and deltas [..., n, 4] of the real cells, float32."""
        rows, columns = size[0] // self.stride, size[1] // self.stride
        count = len(self.anchors)
        logits = logits[..., :rows, :columns].float().unflatten(-3, (2, count))
        deltas = deltas[..., :rows, :columns].float().unflatten(-3, (count, 4))
        return (
            grid_anchors(self.anchors.float(), rows, columns, self.stride),
            logits.movedim((-3, -4), (-2, -1)).flatten(-4, -2),
            deltas.movedim((-4, -3), (-2, -1)).flatten(-4, -2),
        )
