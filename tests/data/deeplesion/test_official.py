"""The official test split: its counts, known from the logs of 3DCE and from the table itself."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lesionkit.data import DeepLesion
from lesionkit.data.deeplesion.check import check_deeplesion

SHARED = os.environ.get("LESIONKIT_SHARED_DATA")
pytestmark = pytest.mark.skipif(not SHARED, reason="LESIONKIT_SHARED_DATA is not set")


@pytest.fixture(scope="module")
def table():
    return Path(SHARED) / "DL_info_test.csv"


@pytest.fixture(scope="module")
def everything(table):
    return DeepLesion(SHARED, split="test", drop_noisy=False, csv=table)


@pytest.fixture(scope="module")
def kept(table):
    return DeepLesion(SHARED, split="test", csv=table)


def test_images_and_boxes_before_and_after_the_filter(table, everything, kept):
    assert (len(everything), len(everything.lesions)) == (4831, 4927)
    assert (len(kept), len(kept.lesions)) == (4817, 4912)
    assert Counter(len(record.lesions) for record in everything) == {1: 4736, 2: 94, 3: 1}
    assert len(set(everything.lesions.column("patient").tolist())) == 665
    assert len(DeepLesion(SHARED, split="train", csv=table)) == 0


def test_types(everything, kept):
    types = Counter(lesion.lesion_type for record in kept for lesion in record.lesions)
    assert types == {1: 108, 2: 1171, 3: 864, 4: 700, 5: 1100, 6: 233, 7: 327, 8: 409}
    noisy = [lesion for lesion in everything.lesions if lesion.noisy]
    assert Counter(lesion.lesion_type for lesion in noisy) == {7: 12, 2: 2, 6: 1}


@pytest.mark.parametrize(
    "axis, counts",
    [("long", (786, 2850, 1276)), ("short", (1630, 2637, 645)), ("mean", (1053, 2905, 954))],
)
def test_diameters(kept, axis, counts):
    mm = np.array([lesion.diameter_mm(axis) for lesion in kept.lesions])
    assert ((mm < 10).sum(), ((mm >= 10) & (mm <= 30)).sum(), (mm > 30).sum()) == counts


def test_intervals(kept):
    intervals = Counter(lesion.interval for lesion in kept.lesions)
    assert [intervals.pop(mm) for mm in (5.0, 1.0, 2.0)] == [2457, 2311, 108]
    assert sum(intervals.values()) == 36
    mm = kept.lesions.column("spacing")[:, 2]
    assert ((mm < 2.5).sum(), (mm == 2.5).sum(), (mm > 2.5).sum()) == (2439, 3, 2470)


def test_spacing(kept):
    x, y, _ = kept.lesions.column("spacing").T
    np.testing.assert_array_equal(x, y)
    assert (round(x.min(), 3), round(x.max(), 3)) == (0.279, 0.977)
    assert round(float(np.median(x)), 3) == 0.816


def test_boxes_are_the_extent_of_the_axes_and_five_pixels_more(kept):
    ends = kept.lesions.column("measurement").reshape(-1, 4, 2)
    boxes = np.concatenate([ends.min(1) - 5, ends.max(1) + 5], axis=1)
    apart = np.abs(kept.lesions.column("box") - boxes).max(axis=1)
    assert np.quantile(apart, 0.95) < 0.01
    lengths = np.linalg.norm(ends[:, 0::2] - ends[:, 1::2], axis=2)
    np.testing.assert_allclose(kept.lesions.column("diameters_px"), lengths, atol=0.0015)


def test_the_check_finds_no_error_in_the_rows(table, tmp_path):
    (tmp_path / "DL_info.csv").symlink_to(table)
    report = check_deeplesion(tmp_path)
    test = report.splits["test"]
    assert (test["images"], test["images_without_noisy"]) == (4831, 4817)
    assert (test["boxes"], test["boxes_without_noisy"]) == (4927, 4912)
    assert test["patients"] == 665
    assert test["types"]["lung"] == 1100
    errors, warnings = report.errors, [p for p in report.problems if p.severity == "warning"]
    assert [(problem.kind, problem.where) for problem in errors] == [("missing", str(tmp_path))]
    # One series has lesions at 1 mm and at 5 mm.
    assert [problem.where for problem in warnings] == ["003247_02_01"]
