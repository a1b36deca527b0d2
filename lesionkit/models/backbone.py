"""Backbones: images [n, 3, h, w] to features [n, out_channels, rows, columns].

Input is what :class:`~lesionkit.data.preprocess.Preprocessing` makes: 0..255 minus its mean. The
real part of an image of h x w pixels covers ``h // stride`` x ``w // stride`` cells.
"""

from collections.abc import Sequence
from urllib.error import URLError

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG16_Weights
from torchvision.models.vgg import cfgs, make_layers

from lesionkit.errors import InputError
from lesionkit.models.backbone_file import input_range, read_vgg16


class VGG16Backbone(nn.Sequential):
    """VGG16 from conv1_1 to conv5_3 with the first three poolings only: stride 8, 14.7 M weights.

    3DCE (``rcnn/symbol/symbol_vgg.py``) removes pool4 for a finer map and does not use pool5.
    """

    stride = 8
    out_channels = 512

    def __init__(self) -> None:
        layout = cfgs["D"]
        pool3 = [i for i, layer in enumerate(layout) if layer == "M"][2]
        kept = layout[: pool3 + 1] + [layer for layer in layout[pool3:] if layer != "M"]
        super().__init__(*make_layers(kept))
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def load_imagenet(self, pixel_mean: float) -> None:
        """Take torchvision's ImageNet weights, fetched once into torch.hub's cache.

        ``pixel_mean`` is what the input has had subtracted. Raises InputError when the weights can
        be neither found nor fetched.
        """
        source = VGG16_Weights.IMAGENET1K_FEATURES
        try:
            weights = source.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except (URLError, OSError, RuntimeError) as error:
            raise InputError(
                f"could not fetch the ImageNet weights {source.url} ({error}); put the file into "
                f"{torch.hub.get_dir()}/checkpoints, or start from random weights with "
                "--backbone-weights none (backbone_weights=None in DetectorConfig)"
            ) from error
        convolutions = [value for key, value in weights.items() if key.startswith("features.")]
        transform = source.transforms()
        self._take(convolutions, pixel_mean, transform.mean, transform.std)

    def load_file(self, path: str, expected_input: str, pixel_mean: float) -> None:
        """Take the convolutions of an .onnx or .safetensors file.

        ``expected_input`` is what they were trained on, "torchvision" or "caffe". Raises
        InputError when the file is missing, damaged or not a VGG16.
        """
        self._take(read_vgg16(path, expected_input), pixel_mean, *input_range(expected_input))

    def _take(
        self,
        convolutions: Sequence[Tensor],
        pixel_mean: float,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.parameters(), convolutions, strict=True):
                parameter.copy_(value)
        fold_normalization(self[0], pixel_mean, mean, std)


def fold_normalization(
    conv: nn.Conv2d, pixel_mean: float, mean: Sequence[float], std: Sequence[float]
) -> None:
    """Make ``conv``, trained on (p - mean) / std with p in 0..1, take 255 p - ``pixel_mean``.

    Exact inside the image. Outside, the zeros of the padding now mean a pixel of ``pixel_mean``
    instead of the ImageNet mean.
    """
    mean, std = (conv.weight.new_tensor(v)[:, None, None] for v in (mean, std))
    with torch.no_grad():
        conv.bias += (conv.weight * (pixel_mean / 255 - mean) / std).sum((1, 2, 3))
        conv.weight /= 255 * std


class SmallBackbone(nn.Module):
    """Five convolutions for CPUs: stride 4, 48 channels, 75 k weights, sees 66 x 66 pixels.

    Pixels are first folded 2 x 2 into channels, so that no feature map has the full resolution:
    there the time of a small network goes.
    """

    stride = 4
    out_channels = 48

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(12, 24, 3, padding=1)
        self.down = nn.Conv2d(24, 48, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            nn.Conv2d(48, 48, 3, padding=dilation, dilation=dilation) for dilation in (1, 2, 4)
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        # The range of the pixels is about +-100; random weights want about +-1.
        x = F.pad(images, (0, width % 2, 0, height % 2)) / 64
        x = F.relu(self.stem(F.pixel_unshuffle(x, 2)))
        x = F.relu(self.down(x))
        for block in self.blocks:
            x = F.relu(x + block(x))
        return x
