"""``lesionkit detect`` on DICOM scans of every shape, in all formats."""

import importlib.util
import json

import numpy as np
import pytest
from pydicom.uid import generate_uid

from lesionkit.data import read_ct
from lesionkit.inference.formats import FORMATS
from tests.data.dicom.writer import write_series
from tests.inference.scans import DIRECTIONS

from .lk import assert_refused, lesionkit

FILES = {file for files in FORMATS.values() for file in files}


def search(trained, folder, out, *options):
    weights = [
        "--weights",
        trained / "weights.safetensors",
        "--score-threshold",
        0.01,
        "--max-findings",
        6,
    ]
    return lesionkit("detect", folder, "--out", out, *weights, *options)


def write(folder, slices, spacing, direction, rows=56, columns=72):
    hu = np.random.default_rng(0).integers(-900, 300, (slices, rows, columns)).astype(np.int16)
    tags = {"StudyInstanceUID": generate_uid(), "FrameOfReferenceUID": generate_uid()}
    return write_series(folder, hu, spacing=spacing, direction=direction, **tags)


@pytest.mark.parametrize(
    "slices,interval,direction",
    [
        (5, 2.5, "axial"),
        (5, 2.5, "tilted"),
        (5, 2.5, "feet first, prone"),
        (5, 2.5, "from head to feet"),
        (1, 5.0, "tilted"),
        (21, 0.5, "tilted"),
        (3, 10.0, "axial"),
    ],
)
def test_scans_of_every_shape(trained, tmp_path, slices, interval, direction):
    highdicom = pytest.importorskip("highdicom")
    write(tmp_path / "ct", slices, (1.5, 1.5, interval), DIRECTIONS[direction])
    out = tmp_path / "out"
    code, stdout, err = search(trained, tmp_path / "ct", out, "--format", ",".join(FORMATS))
    assert code == 0, err
    assert f" on {slices} slices" in stdout
    assert {path.name for path in out.iterdir()} == FILES | {"config.json", "overlay.png"}
    volume = read_ct(tmp_path / "ct")
    report = json.loads((out / "detections.json").read_text())
    places = np.array(report["places_searched"])
    assert 0 <= places.min() <= places.max() <= slices - 1
    np.testing.assert_allclose(np.diff(places), 2.0 / interval, atol=1e-3)
    assert len(report["findings"]) > 1
    markups = json.loads((out / "findings.mrk.json").read_text())["markups"]
    content = highdicom.sr.srread(out / "findings_sr.dcm").content
    groups = content.get_volumetric_roi_measurement_groups()
    for finding, markup, group in zip(report["findings"], markups, groups, strict=True):
        # The middle of the box by its corners, by Slicer's markup, and by the scan's geometry.
        x1, y1, x2, y2 = finding["box_px"]
        middle = ((x1 + x2) / 2, (y1 + y2) / 2, np.mean(finding["places"]))
        for lps in (np.mean(finding["corners_lps_mm"], axis=0), markup["center"]):
            np.testing.assert_allclose(volume.from_lps(lps)[0], middle, atol=0.01)
        edges = np.concatenate([region.value for region in group.roi])
        inside = np.clip([x1, y1, x2 + 1, y2 + 1], 0, [72, 56, 72, 56])
        if interval <= 2.0:  # each place has a slice of its own
            np.testing.assert_allclose([*edges.min(0), *edges.max(0)], inside, atol=0.01)
        assert (edges.min(0) >= inside[:2] - 0.01).all()
        assert (edges.max(0) <= inside[2:] + 0.01).all()


def test_pixels_that_are_not_square_are_refused(trained, tmp_path):
    write(tmp_path / "ct", 3, (0.7, 0.9, 2.5), DIRECTIONS["axial"])
    result = search(trained, tmp_path / "ct", tmp_path / "out")
    assert_refused(result, "0.7", "0.9", "square")
    assert not (tmp_path / "out").exists()


def test_reports_need_highdicom(trained, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "lesionkit.cli.detect.find_spec", lambda name: None if name == "highdicom" else find(name)
    )
    result = search(trained, tmp_path / "ct", tmp_path / "out", "--format", "dicom-sr")
    assert_refused(result, "needs the package highdicom", "lesionkit[dicom-sr]")
