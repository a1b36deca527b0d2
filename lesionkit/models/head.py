"""The second stage: 3D context head of 3DCE (``rcnn/symbol/symbol_vgg.py``)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lesionkit.models import boxes as box_ops
from lesionkit.models.boxes import Size
from lesionkit.models.checks import check_computed
from lesionkit.models.config import DetectorConfig
from lesionkit.models.losses import box_loss, class_loss
from lesionkit.models.sampling import match, sample
from lesionkit.nn import PSRoIPool


class ContextHead(nn.Module):
    """Position-sensitive maps of every image, pooled together over the key image's rois.

    A 1x1 convolution gives each image C * G * G maps, without activation; they are concatenated
    image by image, so that pooled channels mC..mC+C-1 come from image m. Then fully connected
    layers. M = 1 is the improved R-FCN of 3DCE.
    """

    def __init__(self, config: DetectorConfig, in_channels: int, stride: int) -> None:
        super().__init__()
        self.config = config
        maps = config.head_channels * config.group_size**2
        self.maps = nn.Conv2d(in_channels, maps, 1)
        self.pool = PSRoIPool(config.group_size, 1 / stride)
        widths = [maps * config.num_images] + [config.fc_channels] * config.num_fc
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.classes = nn.Linear(config.fc_channels, 2)
        # The original also has a box for the background class, which is never trained or used.
        self.boxes = nn.Linear(config.fc_channels, 4)

    def forward(self, features: Tensor, rois: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Features [B, M, D, H, W] and half-open rois [K_b, 4] per sample.

        Returns class logits [K, 2] (background, lesion) and box deltas [K, 4], K = sum of K_b.
        """
        maps = self.position_maps(features)
        return self.classify(self.pool(maps, [box_ops.to_inclusive(r) for r in rois]))

    def position_maps(self, features: Tensor) -> Tensor:
        """Features [B, M, D, H, W] to the maps [B, M * C * G * G, H, W] that are pooled."""
        maps = self.maps(features.flatten(0, 1))
        return maps.reshape(features.shape[0], -1, *maps.shape[2:])

    def classify(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled maps [K, M * C, G, G] to class logits [K, 2] and box deltas [K, 4]."""
        x = pooled.flatten(1)
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.classes(x), self.boxes(x)

    @torch.compiler.disable
    def sample_rois(
        self,
        proposals: Sequence[Tensor],
        truth: Sequence[Tensor],
        generators: Sequence[torch.Generator | None] | None = None,
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Proposals and true boxes, sampled to train on (3DCE ``rcnn/symbol/proposal_target.py``).

        Returns the rois [K_b, 4] of each sample, and for all of them labels [K] and box targets
        [K, 4], which mean nothing where the label is 0. Unlike 3DCE, a sample with too few
        candidates gives fewer rois instead of repeats.
        """
        config = self.config
        generators = generators or [None] * len(truth)
        rois, labels, targets = [], [], []
        for candidates, boxes, generator in zip(proposals, truth, generators, strict=True):
            candidates = torch.cat((candidates, boxes))
            iou = config.roi_positive_iou
            label, index = match(boxes, candidates, iou, iou)
            positive, negative = sample(
                label, config.roi_batch, config.roi_positive_fraction, generator
            )
            chosen = torch.cat((positive, negative))
            target = candidates.new_zeros(len(chosen), 4)
            target[: len(positive)] = box_ops.encode(boxes[index[positive]], candidates[positive])
            rois.append(candidates[chosen])
            labels.append(label[chosen])
            targets.append(target)
        return rois, torch.cat(labels), torch.cat(targets)

    @torch.compiler.disable
    def losses(
        self, logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor, samples: int
    ) -> tuple[Tensor, Tensor]:
        """The class loss, averaged over all rois, and the weighted box loss of the lesions."""
        lesion = labels > 0
        box = box_loss(
            deltas[lesion], targets[lesion], sigma=1, count=self.config.roi_batch * samples
        )
        return class_loss(logits, labels), self.config.box_loss_weight * box

    @torch.compiler.disable
    def detect(
        self,
        logits: Tensor,
        deltas: Tensor,
        rois: Sequence[Tensor],
        sizes: Sequence[Size],
    ) -> list[dict[str, Tensor]]:
        """Inclusive boxes and lesion probabilities of each sample, before the final NMS."""
        check_computed("class scores or boxes", logits, deltas)
        counts = [len(r) for r in rois]
        found = []
        for roi, size, logit, delta in zip(
            rois, sizes, logits.split(counts), deltas.split(counts), strict=True
        ):
            boxes, scores, keep = self.candidates(logit, delta, roi, size)
            boxes = box_ops.to_inclusive(boxes[keep])
            found.append({"boxes": boxes, "scores": scores[keep]})
        return found

    def candidates(
        self, logits: Tensor, deltas: Tensor, rois: Tensor, size: Size
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Half-open boxes [..., 4], lesion probabilities [...] and which exceed the threshold.

        From logits [..., 2], deltas [..., 4] and half-open rois [..., 4]; in float32.
        """
        boxes = box_ops.clip(box_ops.decode(deltas.float(), rois), size)
        scores = logits.float().softmax(-1)[..., 1]
        return boxes, scores, scores > self.config.score_threshold
