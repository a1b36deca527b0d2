import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou, nms

from lesionkit.models import boxes as box_ops

coordinate = st.floats(-50, 500, width=32)
side = st.floats(0, 300, width=32)
box = st.tuples(coordinate, coordinate, side, side).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


def encode_3dce(ex, gt):
    """nonlinear_transform of 3DCE's bbox_transform.py, in Python floats."""
    ex_w, ex_h = ex[2] - ex[0] + 1, ex[3] - ex[1] + 1
    ex_x, ex_y = ex[0] + 0.5 * (ex_w - 1), ex[1] + 0.5 * (ex_h - 1)
    gt_w, gt_h = gt[2] - gt[0] + 1, gt[3] - gt[1] + 1
    gt_x, gt_y = gt[0] + 0.5 * (gt_w - 1), gt[1] + 0.5 * (gt_h - 1)
    return (
        (gt_x - ex_x) / ex_w,
        (gt_y - ex_y) / ex_h,
        math.log(gt_w / ex_w),
        math.log(gt_h / ex_h),
    )


def decode_3dce(ex, delta):
    """nonlinear_pred of 3DCE's bbox_transform.py."""
    w, h = ex[2] - ex[0] + 1, ex[3] - ex[1] + 1
    x, y = ex[0] + 0.5 * (w - 1) + delta[0] * w, ex[1] + 0.5 * (h - 1) + delta[1] * h
    w, h = w * math.exp(delta[2]), h * math.exp(delta[3])
    return (x - 0.5 * (w - 1), y - 0.5 * (h - 1), x + 0.5 * (w - 1), y + 0.5 * (h - 1))


def iou_3dce(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0]) + 1
    h = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if w <= 0 or h <= 0:
        return 0.0
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return w * h / (sum(areas) - w * h)


def half_open(*boxes):
    return box_ops.to_half_open(torch.tensor(boxes, dtype=torch.float64))


@given(box, box)
@settings(max_examples=50, deadline=None)
def test_encoding_is_3dces(ex, gt):
    (delta,) = box_ops.encode(half_open(gt), half_open(ex)).tolist()
    assert delta == pytest.approx(encode_3dce(ex, gt), rel=1e-6, abs=1e-6)


@given(box, st.tuples(*[st.floats(-2, 2, width=32)] * 4))
@settings(max_examples=50, deadline=None)
def test_decoding_is_3dces(ex, delta):
    moved = box_ops.decode(torch.tensor([delta], dtype=torch.float64), half_open(ex))
    (actual,) = box_ops.to_inclusive(moved).tolist()
    assert actual == pytest.approx(decode_3dce(ex, delta), rel=1e-6, abs=1e-4)


@given(box, box)
@settings(max_examples=50, deadline=None)
def test_iou_is_3dces(a, b):
    assert box_iou(half_open(a), half_open(b)).item() == pytest.approx(iou_3dce(a, b), abs=1e-9)


@given(box)
@settings(max_examples=20, deadline=None)
def test_conventions_round_trip(b):
    assert box_ops.to_inclusive(half_open(b))[0].tolist() == pytest.approx(b)


def test_one_pixel_by_hand():
    # A box of one pixel moved one width right: still one pixel.
    moved = box_ops.decode(torch.tensor([[1.0, 0, 0, 0]]), half_open((5.0, 7, 5, 7)).float())
    assert box_ops.to_inclusive(moved).tolist() == [[6, 7, 6, 7]]


def test_clip_keeps_a_pixel():
    boxes = half_open((-5.0, 2, 30, 3), (100, 100, 120, 130), (-9, -9, -3, -2))
    clipped = box_ops.to_inclusive(box_ops.clip(boxes, (10, 20)))
    assert clipped.tolist() == [[0, 2, 19, 3], [19, 9, 19, 9], [0, 0, 0, 0]]


def test_clip_passes_nan_on():
    clipped = box_ops.clip(torch.tensor([[torch.nan, 0, torch.inf, 5]]), (10, 20))
    assert clipped[0, 0].isnan()
    assert clipped[0, 2] == 20


def test_nms_keeps_boxes_up_to_the_threshold():
    # 10 x 1 pixels against 5 x 1 within it: IoU 0.5; the half-open reading would say 4 / 9.
    boxes = torch.tensor([[0.0, 0, 4, 0], [0, 0, 9, 0], [20, 0, 29, 0]])
    scores = torch.tensor([0.5, 0.9, 0.7])
    assert box_ops.nms_inclusive(boxes, scores, 0.5).tolist() == [1, 2, 0]
    assert box_ops.nms_inclusive(boxes, scores, 0.49).tolist() == [1, 2]
    assert box_ops.nms_inclusive(boxes[:0], scores[:0]).tolist() == []


@pytest.mark.parametrize("count", [1, 7, 100, 399, 1000])
@pytest.mark.parametrize("spread", [5, 40, 1000])  # from few kept boxes to nearly all
def test_the_first_kept_boxes_need_not_see_the_others(count, spread):
    random = torch.Generator().manual_seed(spread)
    corners = torch.rand(400, 2, generator=random) * spread
    boxes = torch.cat((corners, corners + 10), dim=1)
    scores = torch.randint(0, 50, (400,), generator=random).float().sort(descending=True).values
    keep = box_ops.first_after_nms(boxes, scores, 0.5, count)
    assert torch.equal(keep, nms(boxes, scores, 0.5)[:count])
    empty = box_ops.first_after_nms(boxes[:0], scores[:0], 0.5, count)
    assert empty.shape == (0,)
