"""Pixels, boxes and patient coordinates belong together."""

import json

import numpy as np
import pytest

from .nodule import HELD_OUT, overlap, slice_at

pytestmark = pytest.mark.network


def test_geometry(volume, truth):
    assert volume.hu.shape == (133, 512, 512)
    assert volume.spacing == pytest.approx((0.703125, 0.703125, 2.5))
    heights = volume.to_lps(np.array([[0, 0, 0], [0, 0, 132]]))[:, 2]
    assert heights.tolist() == pytest.approx([-340, -10])
    assert len(truth) == 8
    # The nodule is soft tissue in the lung; with rows and columns swapped its box lies on lung.
    key = slice_at(volume, HELD_OUT[0])
    x1, y1, x2, y2 = truth[key].round().astype(int)
    hu = volume.hu[key].astype(float)
    assert hu[y1 : y2 + 1, x1 : x2 + 1].mean() > -350
    assert hu[x1 : x2 + 1, y1 : y2 + 1].mean() < -700


def test_finds_the_nodule_on_slices_not_trained_on(volume, truth, results):
    report = json.loads((results / "detections.json").read_text())
    for key in (slice_at(volume, z) for z in HELD_OUT):
        of_slice = (one for one in report["detections"] if one["slice"] == key)
        best = max(of_slice, key=lambda one: one["score"])
        assert overlap(best["box_px"], truth[key]) >= 0.5


def test_the_nodule_is_one_finding(volume, truth, results):
    best = json.loads((results / "detections.json").read_text())["findings"][0]
    first, last = best["slices"]
    assert len(set(range(first, last + 1)) & set(truth)) >= len(truth) - 1
    assert last - first + 1 <= len(truth) + 3
    boxes = np.array(list(truth.values()))
    assert overlap(best["box_px"], [*boxes[:, :2].min(0), *boxes[:, 2:].max(0)]) >= 0.5


def test_coordinates_agree_with_the_dicom_headers(results):
    import pydicom

    found = json.loads((results / "detections.json").read_text())["detections"]
    for one in found[:5]:
        header = pydicom.dcmread(one["file"], stop_before_pixels=True)
        corner = np.array(header.ImagePositionPatient, dtype=float)
        along_row, along_column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
        row_spacing, column_spacing = header.PixelSpacing
        assert abs(one["place"] - one["slice"]) <= 0.5
        corner += (one["place"] - one["slice"]) * 2.5 * np.cross(along_row, along_column)
        x1, y1, x2, y2 = one["box_px"]
        places = [((x1 + x2) / 2, (y1 + y2) / 2), (x1, y1), (x2, y1), (x2, y2), (x1, y2)]
        for (x, y), written in zip(
            places, [one["centre_lps_mm"], *one["corners_lps_mm"]], strict=True
        ):
            expected = corner + x * column_spacing * along_row + y * row_spacing * along_column
            assert written == pytest.approx(expected, abs=0.01)


def test_overlay_shows_the_nodule(truth, results):
    """The picture's first slice is that of the best finding, and its box frames the nodule."""
    from PIL import Image

    best = json.loads((results / "detections.json").read_text())["detections"][0]
    x1, y1, _, y2 = best["box_px"]
    assert overlap(best["box_px"], truth[best["slice"]]) >= 0.5
    picture = np.asarray(Image.open(results / "overlay.png").convert("RGB")).astype(int)
    red, green, blue = picture[:, 4 + round(x1)].T  # 4 pixels of margin; a slice pixel is one here
    line = np.flatnonzero((red > 240) & (green > 180) & (blue < 90))
    line = line[line < 512]
    assert len(line) == pytest.approx(y2 - y1 + 1, abs=3)
    assert 0 <= line[0] - y1 <= 40  # the margin and the title
