"""Markups read as 3D Slicer reads them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lesionkit.inference import write_results

from .scans import DIRECTIONS, results, scan

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def roi_corners_ras(markup: dict) -> np.ndarray:
    """The eight corners of an ROI in RAS mm, by the steps of Slicer's reader.

    vtkMRMLMarkupsROIJsonStorageNode negates the first two rows of "orientation" and of "center" in
    LPS files; the columns of the orientation are then the box's axes.
    """
    assert markup["type"] == "ROI"
    assert markup["roiType"] == "Box"
    assert markup["coordinateSystem"] == "LPS"
    axes = LPS_TO_RAS @ np.array(markup["orientation"]).reshape(3, 3)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    assert np.linalg.det(axes) == pytest.approx(1)  # a rotation, no mirror
    signs = np.array([(x, y, z) for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)]) / 2
    return LPS_TO_RAS @ markup["center"] + (signs * markup["size"]) @ axes.T


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("slices,interval", [(9, 2.5), (30, 0.5), (4, 10.0), (1, 5.0)])
def test_boxes_land_where_they_were_found(tmp_path, direction, slices, interval):
    volume = scan(direction, slices, interval)
    found = results(volume)
    write_results(tmp_path, found, ["slicer"])
    content = json.loads((tmp_path / "findings.mrk.json").read_text())
    assert "markups-schema" in content["@schema"]
    assert len(content["markups"]) == len(found.findings)
    for number, (markup, finding) in enumerate(
        zip(content["markups"], found.findings, strict=True), 1
    ):
        assert markup["name"] == f"finding {number}"
        voxels = volume.from_lps(roi_corners_ras(markup) @ LPS_TO_RAS)
        x1, y1, z1, x2, y2, z2 = *voxels.min(0), *voxels.max(0)
        # The outer edges of the first and last pixel, and half a place beyond the outer places.
        np.testing.assert_allclose([x1 + 0.5, y1 + 0.5, x2 - 0.5, y2 - 0.5], finding.box, atol=0.01)
        half = finding.step / 2
        np.testing.assert_allclose([z1 + half, z2 - half], finding.places, atol=0.01)
        (point,) = markup["controlPoints"]
        assert point["position"] == markup["center"]
        assert f"score {finding.score:.3f}" in point["description"]


def test_a_mirrored_scan_is_no_mirrored_box(tmp_path):
    volume = scan(np.diag([1.0, 1.0, -1.0]))
    found = results(volume)
    write_results(tmp_path, found, ["slicer"])
    markup = json.loads((tmp_path / "findings.mrk.json").read_text())["markups"][0]
    voxels = volume.from_lps(roi_corners_ras(markup) @ LPS_TO_RAS)
    middle = np.mean(found.findings[0].places)
    assert voxels[:, 2].mean() == pytest.approx(middle, abs=0.01)


def test_nothing_found(tmp_path):
    write_results(tmp_path, replace(results(scan()), findings=[]), ["slicer"])
    assert json.loads((tmp_path / "findings.mrk.json").read_text())["markups"] == []
