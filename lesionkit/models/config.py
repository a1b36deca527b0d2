"""What a detector is made of: one frozen dataclass, and the presets."""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lesionkit.data.preprocess import Preprocessing
from lesionkit.errors import InputError


@dataclass(frozen=True)
class DetectorConfig:
    """Every choice of a :class:`~lesionkit.models.LesionDetector`; the defaults are 3DCE_CS_Att's.

    Sources: 3DCE (Yan et al. 2018, ``rcnn/symbol/symbol_vgg.py``, ``rcnn/config.py``) and Tao et
    al. 2019. Sizes are pixels of the preprocessed image. A wrong value raises ValueError naming
    the field.

    preprocessing: slices to images; its ``num_images`` is M.
    backbone: "vgg16" (stride 8, 512 channels) or "small" (stride 4, 48 channels, for CPUs).
    backbone_weights: what training starts from: "torchvision" for its ImageNet VGG16, the path of
        an .onnx or .safetensors file with the convolutions of a VGG16, None for random weights.
    backbone_input: what input the weights of such a file expect: "torchvision" (RGB in 0..1,
        normalised by ImageNet's mean and deviation) or "caffe" (BGR in 0..255 minus its mean, as
        Keras' VGG16 too).
    contextual, spatial: the two attention modules; either may be off.
    spatial_input: Eq. 5 writes the raw features X, the text and Eq. 8 the refined X'.
    attention_kernel_size: side of the convolution phi, odd.
    attention_init: "normal" (std 0.01) or "zero" (attention starts as the identity).
    anchor_ratios, anchor_scales: height / width, and multiples of the backbone's stride.
    rpn_input: whether proposals come from the attended or the raw key image.
    rpn_min_size: smallest side of a proposal in original pixels (multiplied by the sample's scale).
    rpn_pre_nms, rpn_post_nms: proposals kept around the NMS, (training, evaluation).
    rpn_batch, roi_batch: anchors and rois sampled per sample for the losses.
    group_size, head_channels: G and C of the position-sensitive maps of each image.
    fc_channels, num_fc: hidden layers of the head ("two FC layers" of the paper may mean 2).
    init: "normal" (3DCE's standard deviations of 0.01 and 0.001, made for a pretrained backbone)
        or "kaiming" (for training from random weights) of the proposal network and head.
    box_loss_weight: factor of the second stage's box loss.
    score_threshold, nms_iou: a detection scores more than the first; IoU kept by the final NMS.
    """

    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    backbone: str = "vgg16"
    backbone_weights: str | None = None
    backbone_input: str | None = None

    contextual: bool = True
    spatial: bool = True
    spatial_input: str = "refined"
    contextual_temperature: float = 2.0
    spatial_temperature: float = 3.0
    attention_kernel_size: int = 1
    attention_init: str = "normal"

    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    anchor_scales: tuple[float, ...] = (2.0, 3.0, 4.0, 6.0, 12.0)
    rpn_input: str = "attended"
    rpn_channels: int = 256
    rpn_positive_iou: float = 0.7
    rpn_negative_iou: float = 0.3
    rpn_batch: int = 32
    rpn_positive_fraction: float = 0.5
    rpn_min_size: float = 8.0
    rpn_nms_iou: float = 0.7
    rpn_pre_nms: tuple[int, int] = (12000, 6000)
    rpn_post_nms: tuple[int, int] = (2000, 300)

    group_size: int = 7
    head_channels: int = 10
    fc_channels: int = 2048
    num_fc: int = 1
    roi_batch: int = 32
    roi_positive_fraction: float = 0.25
    roi_positive_iou: float = 0.5
    init: str = "normal"
    box_loss_weight: float = 10.0
    score_threshold: float = 0.0
    nms_iou: float = 0.3

    def to_dict(self) -> dict[str, Any]:
        """The config as plain values that JSON keeps."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DetectorConfig":
        """The config that :meth:`to_dict` wrote; fields that are left out keep their defaults.

        Raises InputError on an unknown field (naming the nearest known one) or a wrong value.
        """
        values = _fields(cls, values)
        try:
            if "preprocessing" in values:
                values["preprocessing"] = Preprocessing(
                    **_fields(Preprocessing, values["preprocessing"], "preprocessing.")
                )
            return cls(**values)
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(f"detector config: {error}") from None

    @property
    def num_images(self) -> int:
        """M, the images of a sample."""
        return self.preprocessing.num_images

    def __post_init__(self) -> None:
        if not isinstance(self.preprocessing, Preprocessing):
            raise ValueError(f"preprocessing must be a Preprocessing, got {self.preprocessing!r}")
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
        for name in ("contextual", "spatial"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise ValueError(f"{name} must be True or False, got {value!r}")
        for name in _COUNTS:
            _check(name, getattr(self, name), int, 1, 1 << 16)
        _check("num_fc", self.num_fc, int, 1, 8)
        for name in ("rpn_pre_nms", "rpn_post_nms"):
            for value in _pair(name, getattr(self, name)):
                _check(name, value, int, 1, math.inf)
        for name in ("contextual_temperature", "spatial_temperature"):
            _check(name, getattr(self, name), float, 1e-6, 1e6)
        for name in _FRACTIONS:
            _check(name, getattr(self, name), float, 0, 1)
        for name in ("rpn_min_size", "box_loss_weight"):
            _check(name, getattr(self, name), float, 0, 1e6)
        for name in ("anchor_ratios", "anchor_scales"):
            values = getattr(self, name)
            if not isinstance(values, tuple) or not values:
                raise ValueError(f"{name} must be a tuple of at least one number, got {values!r}")
            for value in values:
                _check(name, value, float, 0.01, 1000)
        if self.attention_kernel_size % 2 == 0:
            raise ValueError(f"attention_kernel_size must be odd, got {self.attention_kernel_size}")
        if self.rpn_negative_iou > self.rpn_positive_iou:
            raise ValueError(
                f"rpn_negative_iou ({self.rpn_negative_iou}) must not exceed "
                f"rpn_positive_iou ({self.rpn_positive_iou})"
            )
        self._check_backbone_weights()

    def _check_backbone_weights(self) -> None:
        weights = self.backbone_weights
        if weights is None:
            return
        if self.backbone != "vgg16":
            raise ValueError("backbone_weights exist for backbone 'vgg16' only; use None")
        if weights == "torchvision":
            return
        if not isinstance(weights, str) or not weights.endswith((".onnx", ".safetensors")):
            raise ValueError(
                "backbone_weights must be None, 'torchvision' or the path of an .onnx or "
                f".safetensors file, got {weights!r}"
            )
        if self.backbone_input is None:
            raise ValueError(
                f"backbone_input must say what input {weights} expects: 'torchvision' or 'caffe'"
            )


_CHOICES: dict[str, tuple[str | None, ...]] = {
    "backbone": ("vgg16", "small"),
    "backbone_input": (None, "torchvision", "caffe"),
    "spatial_input": ("refined", "raw"),
    "attention_init": ("normal", "zero"),
    "rpn_input": ("attended", "raw"),
    "init": ("normal", "kaiming"),
}
_COUNTS = (
    "attention_kernel_size",
    "rpn_channels",
    "rpn_batch",
    "group_size",
    "head_channels",
    "fc_channels",
    "num_fc",
    "roi_batch",
)
_FRACTIONS = (
    "rpn_positive_iou",
    "rpn_negative_iou",
    "rpn_positive_fraction",
    "rpn_nms_iou",
    "roi_positive_fraction",
    "roi_positive_iou",
    "score_threshold",
    "nms_iou",
)


def _check(name: str, value: object, kind: type, low: float, high: float) -> None:
    accepted = (int, float) if kind is float else (int,)
    if isinstance(value, bool) or not isinstance(value, accepted) or not low <= value <= high:
        noun = "an integer" if kind is int else "a number"
        bounds = f">= {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise ValueError(f"{name} must be {noun} {bounds}, got {value!r}")


def _pair(name: str, value: object) -> tuple[Any, Any]:
    if not isinstance(value, tuple) or len(value) != 2:
        raise ValueError(f"{name} must be two integers (training, evaluation), got {value!r}")
    return value


def _fields(kind: type, values: object, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise InputError(
            f"detector config: {prefix.rstrip('.') or 'it'} must be a mapping, got {values!r}"
        )
    known = [f.name for f in dataclasses.fields(kind)]
    for name in values:
        if name not in known:
            nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
            raise InputError(
                f"detector config: unknown field {prefix}{name}; did you mean {prefix}{nearest}?"
            )
    # JSON has no tuples.
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


# 9 slices; the best published results use num_images 7 (3DCE_CS_Att) and 9 (3DCE).
PRESETS: dict[str, DetectorConfig] = {
    "3dce_cs_att": DetectorConfig(backbone_weights="torchvision"),
    "3dce": DetectorConfig(backbone_weights="torchvision", contextual=False, spatial=False),
    "improved_rfcn": DetectorConfig(
        Preprocessing(num_images=1),
        backbone_weights="torchvision",
        contextual=False,
        spatial=False,
    ),
    # Trains from random weights on two CPU cores in minutes.
    "tiny": DetectorConfig(
        Preprocessing(pixel_spacing=2.0, max_size=192, window=(-300.0, 400.0), mean=100.0),
        backbone="small",
        anchor_ratios=(1.0,),
        anchor_scales=(1.5, 2.25, 3.5, 5.0, 8.0),
        rpn_channels=64,
        rpn_pre_nms=(600, 600),
        rpn_post_nms=(300, 100),
        group_size=5,
        head_channels=6,
        fc_channels=128,
        roi_batch=64,
        rpn_batch=64,
        roi_positive_fraction=0.5,
        init="kaiming",
        # What dividing the deltas by their usual deviations of 0.1 and 0.2 would come to.
        box_loss_weight=40.0,
    ),
}
