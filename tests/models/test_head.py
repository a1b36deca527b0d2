import math
from dataclasses import replace

import pytest
import torch

from lesionkit.data.preprocess import Preprocessing
from lesionkit.models import boxes as box_ops
from lesionkit.models.config import PRESETS
from lesionkit.models.head import ContextHead
from tests.models.samples import TINY

CONFIG = replace(TINY, group_size=3, head_channels=2, fc_channels=8)


def head(config=CONFIG):
    torch.manual_seed(0)
    return ContextHead(config, in_channels=4, stride=4)


def test_shapes():
    features = torch.randn(2, 3, 4, 8, 8)
    rois = [torch.tensor([[0.0, 0, 10, 10]]), torch.rand(4, 4).cumsum(1) * 8]
    classes, boxes = head()(features, rois)
    assert classes.shape == (5, 2)
    assert boxes.shape == (5, 4)


def test_pooled_channels_are_image_major():
    layer, pooled = head(), []
    layer.pool.register_forward_hook(lambda _module, _inputs, output: pooled.append(output))
    features = torch.randn(1, 3, 4, 8, 8)
    rois = [torch.tensor([[3.0, 2, 20, 25]])]
    layer(features, rois)
    features[:, 1] += 1
    layer(features, rois)
    changed = (pooled[0] != pooled[1]).any(dim=(0, 2, 3))
    assert changed.tolist() == [False, False, True, True, False, False]


def test_pooling_takes_inclusive_boxes():
    layer = head()
    torch.nn.init.zeros_(layer.maps.weight)
    seen = []
    layer.pool.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[1]))
    layer(torch.randn(1, 3, 4, 8, 8), [torch.tensor([[3.0, 2, 20, 25]])])
    assert seen[0][0].tolist() == [[3, 2, 19, 24]]


def test_two_hidden_layers():
    layer = head(replace(CONFIG, num_fc=2))
    assert [(m.in_features, m.out_features) for m in layer.hidden] == [(54, 8), (8, 8)]


def test_sampled_counts():
    proposals = torch.rand(200, 4) * 20
    proposals[:, 2:] += proposals[:, :2] + 1
    truth = torch.tensor([[5.0, 5, 15, 15]])
    near = truth + torch.rand(30, 4)
    far = torch.tensor([[500.0, 500, 510, 510]]).expand(100, 4)
    rois, labels, targets = head().sample_rois([torch.cat((near, far))], [truth])
    assert [len(r) for r in rois] == [32]
    assert labels.tolist() == [1] * 8 + [0] * 24
    assert targets.shape == (32, 4)
    assert not targets[8:].any()
    restored = box_ops.decode(targets[:8], rois[0][:8])
    torch.testing.assert_close(restored, truth.expand(8, 4))


def test_true_boxes_join_the_proposals():
    truth = torch.tensor([[5.0, 5, 15, 15]])
    rois, labels, targets = head().sample_rois([torch.zeros(0, 4)], [truth])
    assert torch.equal(rois[0], truth)
    assert labels.tolist() == [1]
    assert not targets.any()


def test_background_takes_every_iou_below_the_threshold():
    truth = torch.tensor([[0.0, 0, 10, 10]])
    proposals = torch.tensor([[0.0, 0, 4, 10], [100, 100, 110, 110], [0, 0, 5, 10]])
    rois, labels, _ = head().sample_rois([proposals], [truth])
    label_of_x2 = dict(zip(rois[0][:, 2].tolist(), labels.tolist(), strict=True))
    assert label_of_x2 == {4: 0, 110: 0, 5: 1, 10: 1}


def test_sample_without_boxes_is_all_background():
    proposals = torch.tensor([[0.0, 0, 5, 5], [1, 1, 9, 9]])
    rois, labels, _ = head().sample_rois([proposals], [torch.zeros(0, 4)])
    assert len(rois[0]) == 2
    assert labels.tolist() == [0, 0]


def test_losses_by_hand():
    logits = torch.tensor([[0.0, 0], [0, math.log(3)], [0, 0]])
    deltas = torch.tensor([[0.5, 0, 0, 2], [7, 7, 7, 7], [7, 7, 7, 7]])
    targets = torch.tensor([[0.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    loss_class, loss_box = head().losses(
        logits, deltas, torch.tensor([1, 0, 0]), targets, samples=2
    )
    assert loss_class.item() == pytest.approx((2 * math.log(2) + math.log(4)) / 3)
    assert loss_box.item() == pytest.approx(10 * (0.125 + 1.5) / 64)


def test_detections_by_hand():
    rois = [torch.tensor([[0.0, 0, 10, 10], [10, 10, 30, 20], [0, 0, 5, 5]]), torch.zeros(0, 4)]
    logits = torch.tensor([[0.0, 0], [0, math.log(3)], [0, 0]])
    deltas = torch.tensor([[0.0, 0, 0, 0], [0.5, 0, 0, 0], [3e38, 0, 0, 0]])
    first, second = head().detect(logits, deltas, rois, [(20, 32), (20, 32)])
    # The second roi moves 10 to the right and is cut at pixel 31; the third ends on the edge.
    assert first["boxes"].tolist() == [[0, 0, 9, 9], [20, 10, 31, 19], [31, 0, 31, 4]]
    assert first["scores"].tolist() == pytest.approx([0.5, 0.75, 0.5])
    assert second["boxes"].shape == (0, 4)
    deltas[2, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="boxes are not finite"):
        head().detect(logits, deltas, rois, [(20, 32), (20, 32)])


def test_score_threshold_is_strict():
    rois, logits = [torch.tensor([[0.0, 0, 10, 10]])], torch.zeros(1, 2)
    for threshold, count in ((0.49, 1), (0.5, 0)):
        layer = head(replace(CONFIG, score_threshold=threshold))
        (found,) = layer.detect(logits, torch.zeros(1, 4), rois, [(20, 20)])
        assert len(found["scores"]) == count


@pytest.mark.parametrize("num_images", [1, 3, 5])
def test_weights_of_the_original(num_images):
    config = replace(PRESETS["3dce"], preprocessing=Preprocessing(num_images=num_images))
    layer = ContextHead(config, in_channels=512, stride=8)
    assert layer.maps.weight.shape == (490, 512, 1, 1)
    assert layer.hidden[0].weight.shape == (2048, 490 * num_images)
