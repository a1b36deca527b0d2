import math
from dataclasses import replace

import pytest
import torch
from torchvision.ops import box_iou

from lesionkit.models.config import DetectorConfig
from lesionkit.models.rpn import RegionProposalNetwork
from tests.models.samples import TINY

# One square anchor of 8 pixels per cell of 4: centres at 2, 6, 10, ...
CONFIG = replace(
    TINY,
    anchor_ratios=(1.0,),
    anchor_scales=(2.0,),
    rpn_channels=4,
    rpn_min_size=4.0,
    rpn_pre_nms=(50, 6),
    rpn_post_nms=(20, 3),
)


def network(**changes):
    return RegionProposalNetwork(replace(CONFIG, **changes), in_channels=5, stride=4)


def outputs(rows, columns):
    """Logits that prefer background everywhere, and zero deltas."""
    logits = torch.zeros(1, 2, rows, columns)
    logits[:, 0] = 5.0
    return logits, torch.zeros(1, 4, rows, columns)


def test_shapes():
    logits, deltas = RegionProposalNetwork(DetectorConfig(rpn_channels=4), 5, 4)(
        torch.zeros(2, 5, 6, 7)
    )
    assert logits.shape == (2, 30, 6, 7)
    assert deltas.shape == (2, 60, 6, 7)


def test_background_channels_come_first():
    rpn = RegionProposalNetwork(DetectorConfig(rpn_channels=4), 5, 4)
    logits, deltas = torch.zeros(30, 4, 5), torch.zeros(60, 4, 5)
    logits[15 + 7, 2, 3] = 9.0  # lesion score of anchor 7 at row 2, column 3
    deltas[4 * 7 + 2, 2, 3] = 0.5  # its dw
    anchors, anchor_logits, anchor_deltas = rpn._on_grid(logits, deltas, (16, 20))
    at = (2 * 5 + 3) * 15 + 7
    assert anchor_logits[at].tolist() == [0, 9]
    assert anchor_deltas[at].tolist() == [0, 0, 0.5, 0]
    assert torch.equal(anchors[at], rpn.anchors[7] + torch.tensor([12.0, 8, 12, 8]))
    assert anchor_logits.count_nonzero() == anchor_deltas.count_nonzero() == 1


def test_best_proposal_is_the_scored_anchor():
    logits, deltas = outputs(8, 8)
    logits[0, 1, 3, 5] = 9.0
    (boxes,) = network().eval().propose(logits, deltas, [(32, 32)], [1.0])
    # Centre (22, 14), 8 x 8.
    assert boxes[0].tolist() == [18, 10, 26, 18]
    assert not boxes.requires_grad


def test_deltas_move_proposals_by_hand():
    logits, deltas = outputs(8, 8)
    logits[0, 1, 3, 5] = 9.0
    deltas[0, :, 3, 5] = torch.tensor([0.25, -0.5, math.log(1.5), 0.0])
    (boxes,) = network().eval().propose(logits, deltas, [(32, 32)], [1.0])
    # Centre (22 + 2, 14 - 4), 12 x 8.
    assert boxes[0].tolist() == pytest.approx([18, 6, 30, 14])


def test_counts_by_mode():
    logits, deltas = outputs(8, 8)
    logits += torch.rand(logits.shape)
    rpn = network(rpn_nms_iou=1.0)
    assert len(rpn.train().propose(logits, deltas, [(32, 32)], [1.0])[0]) == 20
    assert len(rpn.eval().propose(logits, deltas, [(32, 32)], [1.0])[0]) == 3


def test_nms_drops_overlapping_proposals():
    logits, deltas = outputs(8, 8)
    logits += torch.rand(logits.shape)
    (boxes,) = network(rpn_nms_iou=0.3).train().propose(logits, deltas, [(32, 32)], [1.0])
    iou = box_iou(boxes, boxes).fill_diagonal_(0)
    assert len(boxes) > 1
    assert iou.max() <= 0.3


def test_equal_scores_go_by_place():
    logits, deltas = outputs(12, 12)
    (boxes,) = (
        network(rpn_nms_iou=1.0, rpn_min_size=0.0).eval().propose(logits, deltas, [(48, 48)], [1.0])
    )
    assert boxes.tolist() == [[0, 0, 6, 6], [2, 0, 10, 6], [6, 0, 14, 6]]


def test_proposals_stay_on_the_real_image():
    logits, deltas = outputs(10, 10)  # padded to 40 x 40
    logits[0, 1, 8:, 8:] = 9.0
    rpn = network(rpn_nms_iou=1.0, rpn_post_nms=(2000, 300)).train()
    (boxes,) = rpn.propose(logits, deltas, [(30, 22)], [1.0])
    assert len(boxes) == 7 * 5  # int(30 / 4) x int(22 / 4) cells
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= 22).all()
    assert (boxes[:, 3] <= 30).all()


def test_small_sides_are_dropped_by_the_scale():
    logits, deltas = outputs(4, 4)
    deltas[:, 2] = math.log(5 / 8)  # 5 pixels wide
    sizes = [(16, 16)]
    assert len(network().eval().propose(logits, deltas, sizes, [1.25])[0]) > 0
    assert len(network().eval().propose(logits, deltas, sizes, [1.3])[0]) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_broken_numbers_do_not_crash(bad):
    logits, deltas = outputs(8, 8)
    deltas[0, :, 2] = bad
    (boxes,) = network().train().propose(logits, deltas, [(32, 32)], [1.0])
    assert boxes.isfinite().all()
    network().train().propose(torch.full_like(logits, bad), deltas, [(32, 32)], [1.0])


def test_losses_by_hand():
    logits, deltas = outputs(4, 4)
    # One true box, equal to the anchor at row 1, column 1: [2, 2, 10, 10].
    truth = [torch.tensor([[2.0, 2, 10, 10]])]
    deltas[0, 0, 1, 1] = 1.0
    loss_class, loss_box = network().losses(logits, deltas, [(16, 16)], truth)
    # Inside the image lie 2 x 2 anchors; the others overlap it by 4 x 8 (IoU 1/3, ignored) or
    # 4 x 4 (IoU 1/7, negative).
    positive, negative = math.log(1 + math.exp(5)), math.log(1 + math.exp(-5))
    assert loss_class.item() == pytest.approx((positive + negative) / 2, rel=1e-5)
    assert loss_box.item() == pytest.approx((1 - 1 / 18) / 32, rel=1e-5)


def test_losses_are_means_over_the_samples():
    logits, deltas = outputs(4, 4)
    deltas[0, 0, 1, 1] = 1.0
    truth, nothing = torch.tensor([[2.0, 2, 10, 10]]), torch.zeros(0, 4)
    _, one = network().losses(logits, deltas, [(16, 16)], [truth])
    two = (t.expand(2, -1, -1, -1) for t in (logits, deltas))
    _, half = network().losses(*two, [(16, 16)] * 2, [truth, nothing])
    assert half.item() == pytest.approx(one.item() / 2)


def test_padding_takes_no_part_in_the_losses():
    truth = [torch.tensor([[2.0, 2, 10, 10]])]
    logits, deltas = torch.randn(1, 2, 4, 4), torch.randn(1, 4, 4, 4)
    padded = [torch.full((1, t.shape[1], 7, 9), torch.nan) for t in (logits, deltas)]
    for whole, real in zip(padded, (logits, deltas), strict=True):
        whole[:, :, :4, :4] = real
    expected = network().losses(logits, deltas, [(16, 16)], truth)
    assert network().losses(*padded, [(16, 16)], truth) == expected


def test_losses_without_boxes_or_anchors():
    logits, deltas = (t.requires_grad_() for t in outputs(4, 4))
    nothing = [torch.zeros(0, 4)]
    loss_class, loss_box = network().losses(logits, deltas, [(16, 16)], nothing)
    assert loss_class.item() == pytest.approx(math.log(1 + math.exp(-5)), rel=1e-4)
    assert loss_box.item() == 0
    # No anchor of 8 pixels fits into 7.
    loss_class, loss_box = network().losses(logits, deltas, [(7, 7)], [torch.ones(1, 4)])
    assert (loss_class.item(), loss_box.item()) == (0, 0)
    (loss_class + loss_box).backward()
