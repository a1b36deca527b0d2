"""3DCE_CS_Att: attention over neighbouring slices in a two-stage lesion detector."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lesionkit.models import boxes as box_ops
from lesionkit.models.backbone import SmallBackbone, VGG16Backbone
from lesionkit.models.checks import (
    check_images,
    check_pixels,
    check_scales,
    check_seeds,
    check_targets,
)
from lesionkit.models.config import PRESETS, DetectorConfig
from lesionkit.models.head import ContextHead
from lesionkit.models.ranks import largest_over_ranks
from lesionkit.models.rpn import RegionProposalNetwork
from lesionkit.nn import DualAttention

_BACKBONES = {"vgg16": VGG16Backbone, "small": SmallBackbone}
Images = Tensor | Sequence[Tensor]


class LesionDetector(nn.Module):
    """Finds lesions on the key image of each sample (Tao et al. 2019 on 3DCE, Yan et al. 2018).

    A shared backbone sees all M images, attention weighs their features, a region proposal network
    on the key image, image (M - 1) / 2, gives rois, and a head pools them over all images.

    Args:
        config: a DetectorConfig or the name of a preset.
        pretrained: load the weights that ``config.backbone_weights`` names, fetching them if
            needed. By default the weights are random, and nothing is fetched.

    Call it as torchvision's detection models: ``model(images, targets)`` in training mode gives a
    dict of losses to add up, ``model(images)`` in evaluation mode a list of detections. All boxes
    are inclusive xyxy pixels of the preprocessed image.
    """

    def __init__(self, config: DetectorConfig | str, pretrained: bool = False) -> None:
        super().__init__()
        if isinstance(config, str):
            if config not in PRESETS:
                raise ValueError(f"config must be one of {sorted(PRESETS)}, got {config!r}")
            config = PRESETS[config]
        if not isinstance(config, DetectorConfig):
            raise TypeError(
                f"config must be a DetectorConfig or the name of a preset, got {config!r}; "
                "DetectorConfig.from_dict takes a mapping"
            )
        self.config = config
        self.backbone = _BACKBONES[config.backbone]()
        channels, stride = self.backbone.out_channels, self.backbone.stride
        self.attention = (
            DualAttention(
                channels,
                contextual=config.contextual,
                spatial=config.spatial,
                spatial_input=config.spatial_input,
                contextual_temperature=config.contextual_temperature,
                spatial_temperature=config.spatial_temperature,
                kernel_size=config.attention_kernel_size,
                init=config.attention_init,
            )
            if config.contextual or config.spatial
            else nn.Identity()
        )
        self.rpn = RegionProposalNetwork(config, channels, stride)
        self.head = ContextHead(config, channels, stride)
        self._initialize()
        if pretrained and config.backbone_weights is not None:
            self._load_backbone(config.backbone_weights)

    def _load_backbone(self, weights: str) -> None:
        mean = self.config.preprocessing.mean
        if weights == "torchvision":
            self.backbone.load_imagenet(mean)
        else:
            self.backbone.load_file(weights, self.config.backbone_input, mean)

    def _initialize(self) -> None:
        small = {self.rpn.boxes, self.head.boxes, *self.head.hidden}  # 3DCE: std 0.001
        for layer in (*self.rpn.modules(), *self.head.modules()):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                if self.config.init == "normal":
                    nn.init.normal_(layer.weight, std=0.001 if layer in small else 0.01)
                elif layer is self.rpn.conv or layer in self.head.hidden:
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                else:
                    nn.init.xavier_normal_(layer.weight, 0.1)
                nn.init.zeros_(layer.bias)

    def forward(
        self,
        images: Images,
        targets: Sequence[Mapping[str, Tensor]] | None = None,
        scales: Sequence[float] | Tensor | None = None,
        seeds: Sequence[int] | None = None,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training mode, detections in evaluation mode.

        Where torch.distributed is initialised, training mode is collective: every rank calls it
        with its part of a batch, and the mean of their losses is the loss of the whole.

        Args:
            images: [B, M, 3, H, W], or a list of [M, 3, h, w] of any sizes.
            targets: one {"boxes": [g, 4]} per sample; g may be 0. Needed for training.
            scales: resize factor of each sample (``PixelTransform.scale``), for the least size of
                proposals; 1 by default.
            seeds: of the random choice of anchors and rois of each sample, for training; by
                default torch's global generator chooses.

        Returns:
            Training: {"loss_rpn_class", "loss_rpn_box", "loss_class", "loss_box"}.
            Evaluation: per sample {"boxes": [n, 4], "scores": [n]} by falling score, after NMS.

        Raises ValueError or TypeError naming the argument, and the sample where there is one;
        in evaluation mode FloatingPointError when broken weights make scores or boxes not finite.
        """
        if not self.training:
            return [self._suppress(**found) for found in self.candidates(images, scales)]
        samples = self._samples(images)
        scales = check_scales(scales, len(samples))
        truth = check_targets(targets, samples)
        generators = check_seeds(seeds, len(samples))
        sizes = [tuple(s.shape[-2:]) for s in samples]
        height, width = map(max, zip(*sizes, strict=True))
        size = largest_over_ranks((height, width), samples[0].device)
        features, logits, deltas = self.features(_pad(images, samples, size))
        rpn_class, rpn_box = self.rpn.losses(logits, deltas, sizes, truth, generators)
        proposals = self.rpn.propose(logits, deltas, sizes, scales)
        rois, labels, box_targets = self.head.sample_rois(proposals, truth, generators)
        loss_class, loss_box = self.head.losses(
            *self.head(features, rois), labels, box_targets, len(samples)
        )
        return {
            "loss_rpn_class": rpn_class,
            "loss_rpn_box": rpn_box,
            "loss_class": loss_class,
            "loss_box": loss_box,
        }

    def candidates(
        self, images: Images, scales: Sequence[float] | Tensor | None = None
    ) -> list[dict[str, Tensor]]:
        """Detections before the final NMS, in evaluation mode only.

        3DCE maps boxes to the original pixels and suppresses there (``rcnn/core/tester.py``); a
        caller that does so starts here and ends with :func:`lesionkit.models.boxes.nms_inclusive`.
        """
        if self.training:
            raise ValueError("candidates needs evaluation mode; call eval() first")
        samples = self._samples(images)
        scales = check_scales(scales, len(samples))
        check_pixels(images)
        sizes = [tuple(s.shape[-2:]) for s in samples]
        if len(set(sizes)) > 1:
            # As 3DCE tests: one by one, so that no detection depends on the padding of a batch.
            return [self.candidates(s[None], [r])[0] for s, r in zip(samples, scales, strict=True)]
        features, logits, deltas = self.features(_pad(images, samples, sizes[0]))
        rois = self.rpn.propose(logits, deltas, sizes, scales)
        return self.head.detect(*self.head(features, rois), rois, sizes)

    def _samples(self, images: Images) -> Sequence[Tensor]:
        stride = self.backbone.stride
        return check_images(images, self.config.num_images, stride, self.rpn.conv.weight)

    @torch.compiler.disable
    def _suppress(self, boxes: Tensor, scores: Tensor) -> dict[str, Tensor]:
        keep = box_ops.nms_inclusive(boxes, scores, self.config.nms_iou)
        return {"boxes": boxes[keep], "scores": scores[keep]}

    def features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attended features [B, M, D, H, W], and the key image's anchor logits and deltas."""
        features = self.backbone(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        attended = self.attention(features)
        source = attended if self.config.rpn_input == "attended" else features
        return attended, *self.rpn(source[:, images.shape[1] // 2])


def _pad(images: Images, samples: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """One tensor [B, M, 3, H, W]; zeros to the right and below, after the mean is gone (3DCE)."""
    height, width = size
    if isinstance(images, Tensor) and images.shape[-2:] == (height, width):
        return images
    return torch.stack(
        [F.pad(s, (0, width - s.shape[-1], 0, height - s.shape[-2])) for s in samples]
    )
