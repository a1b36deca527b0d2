import doctest
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lesionkit.evaluation import DetectionStatus, froc, match_detections

HIT, DUPLICATE, FALSE_POSITIVE = (
    DetectionStatus.HIT,
    DetectionStatus.DUPLICATE,
    DetectionStatus.FALSE_POSITIVE,
)
LESION = [10, 10, 19, 19]
RATES = (0.0, 0.1, 0.25, 0.5, 1, 1.5, 2, 4, 8, 16)


def brute_force(detections, ground_truth, threshold):
    """The definition, one box at a time, in plain Python numbers."""
    listed = [
        (i, j, [float(v) for v in box])
        for i, image in enumerate(detections)
        for j, box in enumerate(image)
    ]
    listed.sort(key=lambda entry: -entry[2][4])  # Python's sort is stable
    hit = [[False] * len(image) for image in ground_truth]
    status = [[None] * len(image) for image in detections]
    misses = hits = 0
    curve = []
    for i, j, (x1, y1, x2, y2, _) in listed:
        met = []
        for k, (a1, b1, a2, b2) in enumerate(ground_truth[i].tolist()):
            width = min(x2, a2) - max(x1, a1) + 1
            height = min(y2, b2) - max(y1, b1) + 1
            shared = max(width, 0) * max(height, 0)
            own, other = (x2 - x1 + 1) * (y2 - y1 + 1), (a2 - a1 + 1) * (b2 - b1 + 1)
            if shared / (own + other - shared) >= threshold:
                met.append(k)
        new = [k for k in met if not hit[i][k]]
        for k in new:
            hit[i][k] = True
        status[i][j] = HIT if new else DUPLICATE if met else FALSE_POSITIVE
        hits, misses = hits + len(new), misses + (not met)
        curve.append((misses / len(detections), hits / sum(map(len, ground_truth))))
    return curve, status


def hold(curve, rate):
    if not curve or rate < curve[0][0]:
        return 0.0
    x0, y0 = [point for point in curve if point[0] <= rate][-1]
    right = [point for point in curve if point[0] > rate]
    if not right:
        return y0
    x1, y1 = right[0]
    return (y1 - y0) / (x1 - x0) * (rate - x0) + y0


def random_case(seed):
    """Small grids and few scores: equal scores, duplicates, empty images, IoU of exactly 1/2."""
    rng = np.random.default_rng(seed)

    def boxes(count):
        corner = rng.integers(0, 6, (count, 2))
        return np.hstack([corner, corner + rng.integers(0, 5, (count, 2))])

    detections, ground_truth = [], []
    for _ in range(rng.integers(1, 6)):
        found = boxes(rng.integers(0, 9)).astype(float)
        if seed % 3 == 0:
            found[:, :2] -= rng.random((len(found), 2))
        scores = rng.integers(0, rng.choice([2, 5, 1000]), len(found)) / 7
        detections.append(np.column_stack([found, scores]).astype(np.float32))
        ground_truth.append(boxes(rng.integers(0, 4)).astype(np.float32))
    if sum(map(len, ground_truth)) == 0:
        ground_truth[0] = boxes(1).astype(np.float32)
    return detections, ground_truth


def test_equals_brute_force_on_500_random_cases():
    seen = {HIT: 0, DUPLICATE: 0, FALSE_POSITIVE: 0}
    for seed in range(500):
        detections, ground_truth = random_case(seed)
        threshold = (0.25, 0.5, 1.0)[seed % 3]
        result = froc(detections, ground_truth, RATES, threshold)
        curve, status = brute_force(detections, ground_truth, threshold)
        assert list(zip(result.curve_fp, result.curve_sensitivity, strict=True)) == curve
        assert [image.tolist() for image in result.status] == status
        assert result.sensitivity.tolist() == [hold(curve, rate) for rate in RATES]
        assert result.num_images == len(detections)
        assert result.num_lesions == sum(map(len, ground_truth))
        assert np.all(np.diff(result.curve_score) <= 0)
        for image in status:
            for value in image:
                seen[value] += 1
    assert min(seen.values()) > 50


def test_extrapolate_is_scipy_interp1d():
    interpolate = pytest.importorskip("scipy.interpolate")
    compared = 0
    for seed in range(500):
        detections, ground_truth = random_case(seed)
        result = froc(detections, ground_truth, RATES, beyond="extrapolate")
        assert np.all(np.isfinite(result.sensitivity))
        if len(result.curve_fp) < 2:
            continue
        with np.errstate(all="ignore"):
            expected = interpolate.interp1d(
                result.curve_fp, result.curve_sensitivity, fill_value="extrapolate"
            )(RATES)
        defined = np.isfinite(expected)  # scipy divides by 0 on a vertical end of the curve
        np.testing.assert_array_equal(result.sensitivity[defined], expected[defined])
        compared += defined.sum()
    assert compared > 2000


def test_hold_and_extrapolate_differ_where_points_share_a_rate():
    truth = [[LESION, [40, 40, 49, 49]]]
    found = [[0, 0, 5, 5, 0.5], [70, 70, 75, 75, 0.4], [40, 40, 49, 49, 0.3], [80, 80, 85, 85, 0.2]]
    found.insert(0, [*LESION, 0.9])
    rates = (0, 1, 2, 2.5, 3, 9)
    assert froc([found], truth, rates).sensitivity.tolist() == [0.5, 0.5, 1, 1, 1, 1]
    extrapolated = froc([found], truth, rates, beyond="extrapolate").sensitivity
    assert extrapolated.tolist() == [0.5, 0.5, 0.5, 1, 1, 1]
    vertical_end = froc([found[:4]], truth, rates, beyond="extrapolate").sensitivity
    assert vertical_end.tolist() == [0.5, 0.5, 0.5, 1, 1, 1]
    assert froc([[]], truth, (1,), beyond="extrapolate").sensitivity.tolist() == [0.0]
    assert froc([found[1:3]], truth, (0.5,)).sensitivity.tolist() == [0.0]


def test_iou_counts_inclusive_pixels_and_half_is_a_hit():
    # 10 x 10 and 10 x 5 pixels: 50 / 100; without the +1 it would be 9 * 4 / 81
    assert match_detections([[[10, 10, 19, 14, 1]]], [[LESION]])[0].tolist() == [HIT]
    narrower = [[[10, 10, 19, 13.99, 1]]]
    assert match_detections(narrower, [[LESION]])[0].tolist() == [FALSE_POSITIVE]


def test_one_box_may_hit_two_lesions():
    truth = [[[0, 0, 9, 9], [0, 0, 9, 8]]]
    result = froc([[[0, 0, 9, 9, 0.4]]], truth)
    assert result.curve_sensitivity.tolist() == [1.0]
    assert np.all(result.sensitivity == 1)


def test_equal_scores_keep_the_order_given():
    boxes = [[0, 0, 5, 5, 0.5], [*LESION, 0.5]]
    assert froc([boxes], [[LESION]]).curve_fp.tolist() == [1.0, 1.0]
    assert froc([boxes[::-1]], [[LESION]]).curve_fp.tolist() == [0.0, 1.0]


def test_boxes_that_overlap_nothing_are_false_positives_even_if_inverted():
    found = [[[19, 19, 10, 10, 0.9], [16, 10, 12, 19, 0.8], *[[*LESION, 0.7]] * 2], []]
    assert match_detections(found, [[LESION], []])[0].tolist() == [0, 0, 1, 2]
    assert match_detections(found, [[], []])[0].tolist() == [0, 0, 0, 0]
    assert match_detections([], []) == ()


def test_takes_arrays_mappings_tensors_and_lists():
    boxes = np.array([[10, 10, 19, 18], [60, 60, 70, 70]], np.float32)
    scores = np.array([0.5, 0.75], np.float32)
    tensors = {
        "boxes": torch.tensor(boxes, requires_grad=True),
        "scores": torch.tensor(scores, dtype=torch.bfloat16),
    }
    empty = {"boxes": torch.empty(0, 4), "scores": torch.empty(0)}
    both = froc([np.column_stack([boxes, scores]), []], [[LESION], []], RATES)
    assert set(both.sensitivity) == {0.0, 1.0}
    for image in {"boxes": boxes, "scores": scores}, tensors:
        result = froc([image, empty], [torch.tensor([LESION]), torch.empty(0, 4)], RATES)
        assert [len(status) for status in result.status] == [2, 0]
        np.testing.assert_array_equal(result.sensitivity, both.sensitivity)


def test_no_detections_at_all():
    result = froc([[], []], [[LESION], []])
    assert result.sensitivity.tolist() == [0.0] * 6
    assert len(result.curve_fp) == 0
    assert "FROC of 1 lesions in 2 images" in str(result)


def test_prints_a_table():
    table = str(froc([[[*LESION, 1]]], [[LESION, [50, 50, 60, 60], [70, 70, 80, 80]]]))
    assert table.splitlines() == [
        "FROC of 3 lesions in 1 images, IoU >= 0.5",
        "false positives per image     0.5       1       2       4       8      16",
        "sensitivity in %            33.33   33.33   33.33   33.33   33.33   33.33",
    ]


BOX = [*LESION, 0.5]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([[BOX]], [[]]), "ground_truth has no lesion"),
        (([], []), "ground_truth has no lesion"),
        (([[BOX]], [[LESION], []]), "got 1 and 2"),
        (([[LESION]], [[LESION]]), r"detections\[0\] must have shape \[n, 5\], got \[1, 4\]"),
        (([[], [BOX]], [[LESION], BOX]), r"ground_truth\[1\] must have shape"),
        (([[[*LESION, np.nan]]], [[LESION]]), r"detections\[0\] must be finite, got nan"),
        (([[[np.inf, 0, 1, 1, 1]]], [[LESION]]), r"detections\[0\] must be finite, got inf"),
        (([[BOX]], [[[5, 5, 4, 9]]]), r"ground_truth\[0\] must have boxes x1 <= x2"),
        (([{"boxes": [LESION]}], [[LESION]]), r"detections\[0\] must have keys"),
        (([{"boxes": [LESION], "scores": []}], [[LESION]]), "one score per box, got 0, 1"),
        (([[BOX]], [[LESION]], (-1,)), "fp_per_image"),
        (([[BOX]], [[LESION]], 4.0), "fp_per_image"),
        (([[BOX]], [[LESION]], (1,), 0.0), "iou_threshold must be in .* got 0.0"),
        (([[BOX]], [[LESION]], (1,), 0.5, "clip"), 'beyond .* got \'clip\''),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        froc(*arguments)


def test_docstring_example():
    results = doctest.testmod(sys.modules["lesionkit.evaluation.froc"])
    assert results.attempted >= 6
    assert results.failed == 0


def test_reproduces_the_log_of_a_public_detector():
    folder = os.environ.get("LESIONKIT_SHARED_DATA")
    if not folder:
        pytest.skip("LESIONKIT_SHARED_DATA is not set: no stored detections to compare with")
    with np.load(Path(folder) / "froc_mulan_9slices_test.npz") as data:
        found = np.split(data["boxes"], np.cumsum(data["boxes_per_image"])[:-1])
        truth = np.split(data["ground_truth"], np.cumsum(data["ground_truth_per_image"])[:-1])
        rates, logged = data["fp_per_image"], data["logged_sensitivity"]
    result = froc(found, truth, rates)
    np.testing.assert_allclose(result.sensitivity, logged, rtol=0, atol=2e-4)
    assert (result.num_images, result.num_lesions) == (4817, 4912)
