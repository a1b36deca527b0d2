"""Boxes of neighbouring places become findings."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesionkit.inference import Detection, collect_detections, long_axis_mm, merge_detections


def entry(*rows):
    rows = np.array(rows, dtype=np.float32).reshape(-1, 5)
    return {"boxes": rows[:, :4], "scores": rows[:, 4]}


def box(x, y=0, size=20):
    return (float(x), float(y), float(x + size - 1), float(y + size - 1))


def chain(found):
    return [(one.place, one.score) for one in found.detections]


def test_collect_sorts_cuts_and_keeps_the_slice():
    found = {
        0: entry((1, 2, 3, 4, 0.5), (5, 6, 7, 8, 0.2)),
        7.4: entry((9, 9, 10, 10, 0.9), (1, 1, 2, 2, 0.3)),
        8: entry(),
    }
    kept = collect_detections(found, score_threshold=0.25)
    assert [(one.slice, one.box) for one in kept] == [
        (7, (9, 9, 10, 10)), (0, (1, 2, 3, 4)), (7, (1, 1, 2, 2))
    ]  # fmt: skip
    assert len(collect_detections(found, 0.0)) == 4
    assert collect_detections({8: entry()}) == []


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_collect_refuses_thresholds_that_are_none(value):
    with pytest.raises(ValueError, match=f"score_threshold must be in .* got {value}"):
        collect_detections({}, value)


def test_merge_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="max_findings must be at least 1, got -1"):
        merge_detections([], 1.0, -1)
    with pytest.raises(ValueError, match="step must be positive, got 0"):
        merge_detections([], 0)
    assert merge_detections([], 1.0) == []


def test_one_lesion_over_places_between_slices():
    """2 mm places in 5 mm slices; the box moves on a little from place to place."""
    places = [2.4, 2.8, 3.2, 3.6]
    scores = [0.4, 0.6, 0.9, 0.5]
    found = [Detection(places[i], box(10 + 2 * i), scores[i]) for i in range(4)]
    (finding,) = merge_detections(found, 0.4)
    assert chain(finding) == list(zip(places, scores, strict=True))
    assert finding.best == found[2]
    assert finding.score == 0.9
    assert finding.places == (2.4, 3.6)
    assert finding.slices == (2, 4)
    assert finding.box == (10, 0, 35, 19)  # the first box's left edge, the last one's right


def test_iou_of_one_half_links_and_less_does_not():
    # Boxes 30 wide and moved by 10: 20 columns of 40 in common.
    for shift, count in ((10, 1), (10.1, 2)):
        found = [Detection(i, (i * shift, 0.0, i * shift + 29, 9.0), 0.5) for i in (0, 1)]
        assert len(merge_detections(found, 1.0)) == count
    # Without the inclusive ends, [0, 1] and [0, 3] would have 1 of 3 in common.
    narrow = [Detection(0, (0.0, 0.0, 1.0, 9.0), 0.5), Detection(1, (0.0, 0.0, 3.0, 9.0), 0.4)]
    assert len(merge_detections(narrow, 1.0)) == 1


def test_the_last_box_decides_not_the_first():
    """Each box has IoU 0.6 with its neighbour; the ends have none with one another."""
    found = [Detection(i, box(5 * i), 0.9 - 0.1 * i) for i in range(6)]
    (finding,) = merge_detections(found, 1.0)
    assert finding.slices == (0, 5)


@pytest.mark.parametrize(
    "places,slices",
    [
        ([0, 1, 3, 4], [(0, 4)]),  # one place missing
        ([0, 1, 4, 5], [(0, 1), (4, 5)]),  # two
        ([0, 2, 4, 6], [(0, 6)]),
        ([5], [(5, 5)]),
    ],
)
def test_gaps(places, slices):
    found = [Detection(p, box(0), 0.9 - 0.01 * p) for p in places]
    assert [finding.slices for finding in merge_detections(found, 1.0)] == slices


def test_a_gap_is_counted_in_places_not_in_slices():
    found = [Detection(p, box(0), 0.5) for p in (0.0, 4.0, 12.0)]  # 0.5 mm slices: 4 a place
    assert [one.slices for one in merge_detections(found, 4.0)] == [(0, 12)]
    assert len(merge_detections(found, 2.0)) == 2


def test_what_lies_nearer_goes_before_what_lies_over_it_better():
    found = [Detection(0, box(0), 0.9), Detection(1, box(5), 0.4), Detection(2, box(0), 0.8)]
    (finding,) = merge_detections(found, 1.0)
    assert len(finding.detections) == 3


def test_two_lesions_side_by_side():
    left = [Detection(i, box(0), 0.5 + 0.01 * i) for i in range(4)]
    right = [Detection(i, box(12), 0.7 - 0.01 * i) for i in range(1, 6)]
    first, second = merge_detections(left + right, 1.0)
    assert first.detections == tuple(right)
    assert second.detections == tuple(left)


def test_a_box_belongs_to_the_better_finding_alone():
    """Two boxes at one place reach for the next one: the better gets it, the other stays alone."""
    shared = Detection(1, box(4), 0.3)
    good, other = Detection(0, box(0), 0.9), Detection(0, box(9), 0.85)
    first, second = merge_detections([shared, good, other], 1.0)
    assert first.detections == (good, shared)
    assert second.detections == (other,)


def test_ties_go_to_the_higher_score_then_to_the_lower_place():
    seed = Detection(0, box(10), 0.9)
    above, below = Detection(1, box(6), 0.4), Detection(1, box(14), 0.5)
    first, _ = merge_detections([above, below, seed], 1.0)
    assert first.detections == (seed, below)
    equals = [Detection(p, box(0), 0.5) for p in (3, 9)]
    assert [one.slices[0] for one in merge_detections(equals[::-1], 1.0)] == [3, 9]


def test_max_findings_keeps_the_best():
    found = [Detection(0, box(40 * i), 0.1 * (i + 1)) for i in range(5)]
    assert [one.score for one in merge_detections(found, 1.0, 2)] == pytest.approx([0.5, 0.4])


DETECTIONS = st.lists(
    st.builds(
        lambda position, x, y, score: Detection(position * 0.8, box(x, y), score / 4),
        *(st.integers(0, 6), st.integers(0, 12), st.integers(0, 3), st.integers(0, 4)),
    ),
    max_size=24,
)


@given(DETECTIONS, st.randoms(use_true_random=False))
def test_order_of_arrival_is_nothing_to_the_result(detections, random):
    found = merge_detections(detections, 0.8)
    mixed = list(detections)
    random.shuffle(mixed)
    assert merge_detections(mixed, 0.8) == found
    members = [one for finding in found for one in finding.detections]
    assert sorted(members, key=repr) == sorted(detections, key=repr)  # each in one finding
    assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)
    for finding in found:
        steps = np.diff([one.place for one in finding.detections]) / 0.8
        assert set(steps.round(6)) <= {1, 2}


def test_a_slice_has_the_detection_nearest_to_it():
    found = [Detection(p, box(i), 0.5 + 0.1 * i) for i, p in enumerate((1.6, 2.0, 2.4))]
    (finding,) = merge_detections(found, 0.4)
    assert finding.at(2) == found[1]
    assert finding.at(9) == found[2]
    (tied,) = merge_detections([found[0], found[2]], 0.4)
    assert tied.at(2) == found[2]


def test_long_axis_by_hand():
    # 40 x 26 pixels less 5 on each side: sqrt(30^2 + 8^2) of 0.5 mm.
    assert long_axis_mm((10, 10, 50, 36), 0.5) == pytest.approx(np.hypot(30, 8) / 2)
    assert long_axis_mm((10, 10, 36, 50), 0.5) == pytest.approx(np.hypot(30, 8) / 2)
    assert long_axis_mm((0, 0, 4, 4), 1.0) == pytest.approx(np.hypot(1, 0.5))  # smaller than that


def test_long_axis_against_measured_diameters():
    """The error that the docstring states, on DeepLesion's test split."""
    folder = os.environ.get("LESIONKIT_SHARED_DATA")
    if not folder:
        pytest.skip("needs LESIONKIT_SHARED_DATA, a folder with DL_info_test.csv")
    with open(Path(folder, "DL_info_test.csv"), newline="") as stream:
        rows = list(csv.DictReader(stream))
    errors, relative = [], []
    for row in rows:
        spacing = float(row["Spacing_mm_px_"].split(",")[0])
        measured = float(row["Lesion_diameters_Pixel_"].split(",")[0]) * spacing
        corners = [float(value) for value in row["Bounding_boxes"].split(",")]
        errors.append(abs(long_axis_mm(corners, spacing) - measured))
        relative.append(errors[-1] / measured)
    assert len(errors) == 4927
    assert np.percentile(errors, (50, 90)) == pytest.approx([1.11, 4.41], abs=0.02)
    assert np.percentile(relative, (50, 90)) == pytest.approx([0.065, 0.155], abs=0.001)
