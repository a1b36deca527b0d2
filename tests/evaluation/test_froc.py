import doctest
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from lesionkit.evaluation import froc, match_detections

from .brute_force import DUPLICATE, FALSE_POSITIVE, HIT, as_curve, random_case, read, walk

LESION = [10, 10, 19, 19]
RATES = (0.0, 0.1, 0.25, 0.5, 1, 1.5, 2, 4, 8, 16)
MODES, OVERLAPS = ("hold", "3dce", "strict"), ("iou", "iobb")


@pytest.mark.parametrize("mode", MODES)
def test_equals_brute_force_on_500_random_cases(mode):
    seen = Counter()
    for seed in range(500):
        detections, ground_truth = random_case(seed)
        threshold, images = (0.25, 0.5, 1.0)[seed % 3], len(detections)
        lesions = sum(map(len, ground_truth))
        for overlap in OVERLAPS:
            rules = (threshold, mode, overlap)
            points, status = walk(detections, ground_truth, *rules)
            seen.update(value for image in status for value in image)
            if lesions == 0:
                matched = match_detections(detections, ground_truth, *rules)
                assert [image.tolist() for image in matched] == status
                with pytest.raises(ValueError, match="no lesion"):
                    froc(detections, ground_truth, RATES, *rules)
                seen["no lesion"] += 1
                continue
            result = froc(detections, ground_truth, RATES, *rules)
            curve = as_curve(points, images, lesions)
            assert list(zip(result.curve_fp, result.curve_sensitivity, strict=True)) == curve
            assert [image.tolist() for image in result.status] == status
            assert result.sensitivity.tolist() == [read(curve, rate, mode) for rate in RATES]
            assert result.mean == np.mean([read(curve, rate, mode) for rate in (0.5, 1, 2, 4)])
            assert (result.num_images, result.num_lesions) == (images, lesions)
            assert np.all(np.diff(result.curve_score) <= 0)
    assert min(seen[HIT], seen[FALSE_POSITIVE]) > 500
    assert (seen[DUPLICATE] > 300) == (mode != "strict")
    assert seen["no lesion"] >= 40


def test_many_pairs_are_matched_piece_by_piece(monkeypatch):
    for seed in range(40):
        detections, ground_truth = random_case(seed)
        for mode in MODES:
            expected = match_detections(detections, ground_truth, 0.25, mode)
            for pairs in (1, 3, 10):
                monkeypatch.setattr("lesionkit.evaluation.matching._PAIRS", pairs)
                matched = match_detections(detections, ground_truth, 0.25, mode)
                assert [image.tolist() for image in matched] == [
                    image.tolist() for image in expected
                ]
            monkeypatch.undo()


def test_mode_3dce_is_scipy_interp1d():
    interpolate = pytest.importorskip("scipy.interpolate")
    compared = 0
    for seed in range(500):
        detections, ground_truth = random_case(seed)
        if not sum(map(len, ground_truth)):
            continue
        result = froc(detections, ground_truth, RATES, mode="3dce")
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


def test_hold_and_3dce_differ_where_points_share_a_rate():
    truth = [[LESION, [40, 40, 49, 49]]]
    found = [[0, 0, 5, 5, 0.5], [70, 70, 75, 75, 0.4], [40, 40, 49, 49, 0.3], [80, 80, 85, 85, 0.2]]
    found.insert(0, [*LESION, 0.9])
    rates = (0, 1, 2, 2.5, 3, 9)
    assert froc([found], truth, rates).sensitivity.tolist() == [0.5, 0.5, 1, 1, 1, 1]
    extrapolated = froc([found], truth, rates, mode="3dce").sensitivity
    assert extrapolated.tolist() == [0.5, 0.5, 0.5, 1, 1, 1]
    vertical_end = froc([found[:4]], truth, rates, mode="3dce").sensitivity
    assert vertical_end.tolist() == [0.5, 0.5, 0.5, 1, 1, 1]
    assert froc([[]], truth, (1,), mode="3dce").sensitivity.tolist() == [0.0]
    assert froc([found[1:3]], truth, (0.5,)).sensitivity.tolist() == [0.0]


def test_iou_counts_inclusive_pixels_and_half_is_a_hit():
    # 10 x 10 and 10 x 5 pixels: 50 / 100; without the +1 it would be 9 * 4 / 81
    assert match_detections([[[10, 10, 19, 14, 1]]], [[LESION]])[0].tolist() == [HIT]
    narrower = [[[10, 10, 19, 13.99, 1]]]
    assert match_detections(narrower, [[LESION]])[0].tolist() == [FALSE_POSITIVE]


def test_overlap_may_be_over_the_box_alone():
    inside = [[[12, 12, 13, 14, 1]]]  # 6 of 100 pixels, all of its own
    assert match_detections(inside, [[LESION]])[0].tolist() == [FALSE_POSITIVE]
    assert match_detections(inside, [[LESION]], 1.0, overlap="iobb")[0].tolist() == [HIT]
    half_out = [[[15, 10, 24, 19, 1]]]
    assert match_detections(half_out, [[LESION]], overlap="iobb")[0].tolist() == [HIT]
    assert match_detections(half_out, [[LESION]], 0.51, overlap="iobb")[0].tolist() == [0]
    covering = [[[0, 0, 99, 99, 1]]]
    assert match_detections(covering, [[LESION]], 0.02, overlap="iobb")[0].tolist() == [0]


def test_strict_takes_the_best_lesion_that_is_left_and_counts_duplicates():
    truth = [[[0, 0, 9, 9], [0, 0, 9, 8]]]
    # On both, best on the second; then on both again; then a third one with no lesion left.
    found = [[[0, 0, 9, 8, 0.9], [0, 0, 9, 8, 0.8], [0, 0, 9, 9, 0.7]]]
    result = froc(found, truth, (0, 1), mode="strict")
    assert result.curve_sensitivity.tolist() == [0.5, 1, 1]
    assert result.curve_fp.tolist() == [0, 0, 1]
    assert result.status[0].tolist() == [HIT, HIT, FALSE_POSITIVE]
    assert froc(found, truth).status[0].tolist() == [HIT, DUPLICATE, DUPLICATE]


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
        "FROC of 3 lesions in 1 images, IoU >= 0.5, mode hold",
        "false positives per image     0.5       1       2       4       8      16  mean 0.5-4",
        "sensitivity in %            33.33   33.33   33.33   33.33   33.33   33.33       33.33",
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
        (([[BOX]], [[LESION]], (1,), 0.5, "clip"), "mode must be one of hold, 3dce, strict, got"),
        (([[BOX]], [[LESION]], (1,), 0.5, "hold", "dice"), "overlap .* got 'dice'"),
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
    assert result.mean == pytest.approx(logged[:4].mean(), abs=2e-4)
    assert (result.num_images, result.num_lesions) == (4817, 4912)
    for mode in MODES:
        started = time.perf_counter()
        assert np.all(froc(found, truth, rates, mode=mode).sensitivity <= result.sensitivity)
        assert time.perf_counter() - started < 3  # a tenth of it, on an idle core


def test_needs_no_torch():
    code = "import sys, lesionkit.evaluation as e; e.froc([[]], [[[0, 0, 1, 1]]])"
    code += "; assert not {'torch', 'scipy', 'matplotlib', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
