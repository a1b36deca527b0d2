import dataclasses
import json

import pytest

from lesionkit.data.preprocess import Preprocessing
from lesionkit.errors import InputError
from lesionkit.models import PRESETS, DetectorConfig


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    text = json.dumps(PRESETS[name].to_dict())
    assert DetectorConfig.from_dict(json.loads(text)) == PRESETS[name]


def test_presets_are_the_papers():
    paper, base, plain = (PRESETS[n] for n in ("3dce_cs_att", "3dce", "improved_rfcn"))
    assert (paper.contextual, paper.spatial, paper.num_images) == (True, True, 3)
    assert (base.contextual, base.spatial, base.num_images) == (False, False, 3)
    assert (plain.contextual, plain.spatial, plain.num_images) == (False, False, 1)
    for config in (paper, base, plain):
        assert (config.backbone, config.backbone_weights) == ("vgg16", "torchvision")
        assert (config.group_size, config.head_channels, config.fc_channels) == (7, 10, 2048)
        assert (config.rpn_pre_nms, config.rpn_post_nms) == ((12000, 6000), (2000, 300))
        assert config.preprocessing.pixel_spacing == 0.8


def test_missing_fields_take_their_defaults():
    config = DetectorConfig.from_dict({"preprocessing": {"num_images": 5}})
    assert config == DetectorConfig(Preprocessing(num_images=5))


@pytest.mark.parametrize(
    "values,message",
    [
        ({"fc_chanels": 3}, "unknown field fc_chanels; did you mean fc_channels"),
        (
            {"preprocessing": {"num_image": 3}},
            "preprocessing.num_image; .* preprocessing.num_images",
        ),
        ({"preprocessing": 3}, ": preprocessing must be a mapping"),
        ({"fc_channels": "many"}, "fc_channels must be an integer between 1 and 65536, got 'many'"),
        ({"preprocessing": {"num_images": 2}}, "num_images"),
        ([], "must be a mapping"),
    ],
)
def test_from_dict_refuses(values, message):
    with pytest.raises(InputError, match=message):
        DetectorConfig.from_dict(values)


@pytest.mark.parametrize(
    "field,value",
    [
        ("preprocessing", None),
        ("backbone", "resnet"),
        ("backbone_weights", "caffe"),
        ("contextual", 1),
        ("spatial", None),
        ("spatial_input", "both"),
        ("contextual_temperature", 0.0),
        ("spatial_temperature", float("nan")),
        ("attention_kernel_size", 2),
        ("attention_init", "ones"),
        ("anchor_ratios", ()),
        ("anchor_scales", (2.0, -1.0)),
        ("anchor_scales", [2.0]),
        ("rpn_input", "image"),
        ("rpn_channels", 0),
        ("rpn_positive_iou", 1.5),
        ("rpn_negative_iou", 0.9),
        ("rpn_batch", 2.5),
        ("rpn_batch", True),
        ("rpn_min_size", -1),
        ("rpn_pre_nms", 300),
        ("rpn_post_nms", (0, 10)),
        ("group_size", 0),
        ("init", "orthogonal"),
        ("box_loss_weight", float("inf")),
        ("score_threshold", "high"),
        ("nms_iou", -0.1),
    ],
)
def test_wrong_values_name_their_field(field, value):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(DetectorConfig(), **{field: value})


def test_weights_need_vgg16():
    with pytest.raises(ValueError, match=r"backbone_weights .*vgg16"):
        DetectorConfig(backbone="small", backbone_weights="torchvision")
