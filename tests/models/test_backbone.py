from urllib.error import URLError

import pytest
import torch
from torch import nn

from lesionkit.errors import InputError
from lesionkit.models import backbone as backbones
from lesionkit.models.backbone import SmallBackbone, VGG16Backbone, fold_normalization


def test_vgg16_layers():
    layers = VGG16Backbone()
    channels = [m.out_channels for m in layers if isinstance(m, nn.Conv2d)]
    assert channels == [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    assert sum(isinstance(m, nn.MaxPool2d) for m in layers) == 3
    assert isinstance(layers[-1], nn.ReLU)
    assert sum(p.numel() for p in layers.parameters()) == 14_714_688


@pytest.mark.parametrize("kind", [VGG16Backbone, SmallBackbone])
@pytest.mark.parametrize("height,width", [(32, 32), (37, 50), (8, 15)])
def test_covers_every_real_cell(kind, height, width):
    layers = kind()
    with torch.no_grad():
        features = layers(torch.zeros(2, 3, height, width))
    assert features.shape[:2] == (2, layers.out_channels)
    for cells, pixels in zip(features.shape[2:], (height, width), strict=True):
        assert pixels // layers.stride <= cells <= -(-pixels // layers.stride)


def test_small_weights():
    assert sum(p.numel() for p in SmallBackbone().parameters()) == 75_384


@pytest.mark.parametrize("stride_shift", [1, 2])
def test_small_moves_with_its_input(stride_shift):
    torch.manual_seed(0)
    layers, x = SmallBackbone(), torch.zeros(1, 3, 160, 160)
    x[..., 60:100, 60:100] = torch.randn(40, 40) * 50
    pixels = stride_shift * layers.stride
    with torch.no_grad():
        moved = layers(x.roll((pixels, pixels), (2, 3)))
        expected = layers(x).roll((stride_shift, stride_shift), (2, 3))
    torch.testing.assert_close(moved[..., 10:30, 10:30], expected[..., 10:30, 10:30])


def test_folded_normalization_inside_the_image():
    torch.manual_seed(0)
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
    conv = nn.Conv2d(3, 4, 3)
    pixels = torch.rand(1, 3, 6, 6) * 255
    expected = conv(
        (pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    )
    fold_normalization(conv, 50.0, mean, std)
    torch.testing.assert_close(conv(pixels - 50), expected, rtol=1e-4, atol=1e-5)


def test_imagenet_weights_go_in_order(monkeypatch):
    source = VGG16Backbone()
    names = [f"features.{i}.{part}" for i in range(13) for part in ("weight", "bias")]
    file = dict(zip(names, source.state_dict().values(), strict=True))
    file["classifier.0.weight"] = torch.zeros(1)

    class Weights:
        url = "https://example.org/vgg16.pth"

        @staticmethod
        def get_state_dict(**options):
            assert options["weights_only"]
            return file

        @staticmethod
        def transforms():
            class Transform:
                mean, std = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)

            return Transform

    class Source:
        IMAGENET1K_FEATURES = Weights

    monkeypatch.setattr(backbones, "VGG16_Weights", Source)
    loaded = VGG16Backbone()
    loaded.load_imagenet(pixel_mean=0.0)
    for a, b in zip(loaded.parameters(), source.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_weights_out_of_reach(monkeypatch):
    def fail(*args, **kwargs):
        raise URLError("no route")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(InputError, match=r"no route.*checkpoints.*--backbone-weights none"):
        VGG16Backbone().load_imagenet(50.0)
