import csv
import json
from dataclasses import replace

import numpy as np
import pytest

import lesionkit
from lesionkit.data import CTVolume
from lesionkit.inference import Finding, collect_findings, write_findings


def entry(*rows):
    rows = np.array(rows, dtype=np.float32).reshape(-1, 5)
    return {"boxes": rows[:, :4], "scores": rows[:, 4]}


def tilted_volume(files: bool = True) -> CTVolume:
    """A scan whose rows run to posterior and whose columns run to the right of the patient."""
    return CTVolume(
        hu=np.zeros((3, 40, 60), np.int16),
        spacing=(0.5, 2.0, 3.0),
        origin=(10.0, 20.0, 30.0),
        direction=np.array([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]]),
        source="folder",
        slice_files=("a.dcm", "b.dcm", "c.dcm") if files else (),
    )


def test_collect_sorts_cuts_and_keeps_the_slice():
    found = {
        0: entry((1, 2, 3, 4, 0.5), (5, 6, 7, 8, 0.2)),
        7: entry((9, 9, 10, 10, 0.9), (1, 1, 2, 2, 0.3)),
        8: entry(),
    }
    findings = collect_findings(found, score_threshold=0.25, max_findings=2)
    assert [(f.slice, f.box) for f in findings] == [(7, (9, 9, 10, 10)), (0, (1, 2, 3, 4))]
    assert len(collect_findings(found, 0.0, 99)) == 4
    assert collect_findings({8: entry()}) == []


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_collect_refuses_thresholds_that_are_none(value):
    with pytest.raises(ValueError, match=f"score_threshold must be in .* got {value}"):
        collect_findings({}, value)


def test_collect_refuses_to_keep_none():
    with pytest.raises(ValueError, match="max_findings must be at least 1, got -1"):
        collect_findings({}, 0.5, -1)


def test_a_file_name_that_is_no_text(tmp_path):
    volume = replace(tilted_volume(), slice_files=("a.dcm", "b.dcm", "c\udcff.dcm"))
    write_findings(tmp_path, volume, [Finding(2, (4.0, 6.0, 10.0, 8.0), 0.75)], {})
    assert json.loads((tmp_path / "detections.json").read_text())["findings"][0]["file"] == (
        "c\udcff.dcm"
    )
    assert "c\\udcff.dcm" in (tmp_path / "detections.csv").read_text()


def test_json_gives_pixels_and_patient_millimetres(tmp_path):
    volume = tilted_volume()
    write_findings(tmp_path, volume, [Finding(2, (4.0, 6.0, 10.0, 8.0), 0.75)], {"model": "m"})
    report = json.loads((tmp_path / "detections.json").read_text())
    assert report["format"] == "lesionkit-detections-1"
    assert report["lesionkit"] == lesionkit.__version__
    assert report["model"] == "m"
    assert report["scan"] == {
        "source": "folder",
        "slices": 3,
        "rows": 40,
        "columns": 60,
        "spacing_mm": [0.5, 2.0, 3.0],
        "origin_lps_mm": [10.0, 20.0, 30.0],
        "direction_lps": [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]],
    }
    assert "x2 - x1 + 1" in report["convention"]
    (finding,) = report["findings"]
    assert finding == {
        "id": 1,
        "slice": 2,
        "place": 2,
        "file": "c.dcm",
        "score": 0.75,
        "box_px": [4.0, 6.0, 10.0, 8.0],
        # x: 10 - 0.5 * column, y: 20 + 2 * row, z: 30 - 3 * slice
        "centre_lps_mm": [6.5, 34.0, 24.0],
        "corners_lps_mm": [[8, 32, 24], [5, 32, 24], [5, 36, 24], [8, 36, 24]],
        "size_mm": [3.5, 6.0],
    }
    lps = np.array(finding["corners_lps_mm"])
    pixels = volume.from_lps(lps)
    np.testing.assert_allclose(pixels[0], [4, 6, 2], atol=1e-9)


def test_csv_has_the_same_numbers(tmp_path):
    findings = [Finding(1, (0.25, 1, 2, 3), 0.9), Finding(0, (4, 5, 6, 7), 0.1)]
    write_findings(tmp_path, tilted_volume(), findings, {})
    entries = json.loads((tmp_path / "detections.json").read_text())["findings"]
    with open(tmp_path / "detections.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["slice"]) for row in rows] == [1, 0]
    for row, same in zip(rows, entries, strict=True):
        assert [float(row[n]) for n in ("x1", "y1", "x2", "y2")] == same["box_px"]
        centre = [float(row[f"centre_{axis}_lps_mm"]) for axis in "xyz"]
        assert centre == same["centre_lps_mm"]
        assert [float(row["width_mm"]), float(row["height_mm"])] == same["size_mm"]
        assert float(row["score"]) == pytest.approx(same["score"])
        assert row["file"] == same["file"]


def test_no_findings_and_no_files(tmp_path):
    write_findings(tmp_path, tilted_volume(files=False), [], {})
    assert json.loads((tmp_path / "detections.json").read_text())["findings"] == []
    assert len((tmp_path / "detections.csv").read_text().splitlines()) == 1
    write_findings(tmp_path, tilted_volume(files=False), [Finding(0, (1, 1, 2, 2), 0.5)], {})
    assert json.loads((tmp_path / "detections.json").read_text())["findings"][0]["file"] is None
