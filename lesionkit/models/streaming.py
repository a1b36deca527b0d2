"""A detector in two steps: what each image gives on its own, and what a sample makes of it.

Neighbouring samples of a scan share M - 1 of their M images, so a scan needs the first step, which
holds the backbone and nearly all of the work, once for each image instead of M times.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lesionkit.models import boxes as box_ops
from lesionkit.models.boxes import Size
from lesionkit.models.checks import check_pixels
from lesionkit.models.detector import LesionDetector

ImageParts = Mapping[str, Tensor]


def image_parts(model: LesionDetector, images: Tensor) -> list[ImageParts]:
    """What images [n, 3, H, W] give whatever stands beside them, one mapping an image.

    With contextual attention "features" [D, h, w] and phi's "logits" of that shape. Without it
    nothing depends on the neighbours before the pooling: "source" [D, h, w], which proposals come
    from, and the position-sensitive "maps".

    Raises FloatingPointError where pixels are not finite.
    """
    check_pixels(images)
    features = model.backbone(images)
    if model.config.contextual:
        parts = {"features": features, "logits": model.attention.contextual.logits(features[None])}
        parts["logits"] = parts["logits"][0]
    else:
        attended = model.attention(features[:, None])[:, 0]
        is_attended = model.config.rpn_input == "attended"
        parts = {
            "source": attended if is_attended else features,
            "maps": model.head.position_maps(attended[:, None]),
        }
    return [
        dict(zip(parts, of_image, strict=True)) for of_image in zip(*parts.values(), strict=True)
    ]


def sample_candidates(
    model: LesionDetector, parts: Sequence[ImageParts], size: Size, scale: float
) -> dict[str, Tensor]:
    """:meth:`LesionDetector.candidates` of one sample of M images, from their parts.

    Args:
        model: in evaluation mode.
        parts: of the M images, in order.
        size: height and width of the images.
        scale: ``PixelTransform.scale``.
    """
    key = parts[len(parts) // 2]
    if model.config.contextual:
        features = torch.stack([part["features"] for part in parts])[None]
        logits = torch.stack([part["logits"] for part in parts])[None]
        attended = model.attention(features, logits=logits)
        is_attended = model.config.rpn_input == "attended"
        source = attended[0, len(parts) // 2] if is_attended else key["features"]
        maps = model.head.position_maps(attended)
    else:
        source = key["source"]
        maps = torch.cat([part["maps"] for part in parts])[None]
    rois = model.rpn.propose(*model.rpn(source[None]), [size], [scale])
    pooled = model.head.pool(maps, [box_ops.to_inclusive(boxes) for boxes in rois])
    (found,) = model.head.detect(*model.head.classify(pooled), rois, [size])
    return found
