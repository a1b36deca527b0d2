"""Sizes, places and the two plain formats."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

import lesionkit
from lesionkit.data import CTVolume
from lesionkit.inference import Detection, Finding, ScanResults, write_results
from lesionkit.inference.results import centre_lps, edges, size_mm

from .scans import DIRECTIONS, results, scan


def turned_volume(files: bool = True) -> CTVolume:
    """A scan whose rows run to posterior and whose columns run to the right of the patient."""
    return CTVolume(
        hu=np.zeros((3, 40, 60), np.int16),
        spacing=(0.5, 2.0, 3.0),
        origin=(10.0, 20.0, 30.0),
        direction=np.array([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]]),
        source="folder",
        slice_files=("a.dcm", "b.dcm", "c.dcm") if files else (),
    )


def one_finding(*detections: Detection, step: float = 1.0, volume: CTVolume | None = None):
    volume = volume or turned_volume()
    return ScanResults(volume, [Finding(detections, step)], [0.0, 1.0, 2.0], {"model": "m"})


def report(folder):
    return json.loads((folder / "detections.json").read_text())


def rows_of(folder, name):
    with open(folder / name, newline="") as stream:
        return list(csv.DictReader(stream))


def test_json_gives_pixels_and_patient_millimetres(tmp_path):
    volume = turned_volume()
    found = one_finding(
        Detection(1, (4.0, 8.0, 10.0, 12.0), 0.5), Detection(2, (4.0, 6.0, 12.0, 8.0), 0.75)
    )
    write_results(tmp_path, found, ["json"])
    written = report(tmp_path)
    assert written["format"] == "lesionkit-detections-2"
    assert written["lesionkit"] == lesionkit.__version__
    assert written["model"] == "m"
    assert written["scan"] == {
        "source": "folder",
        "slices": 3,
        "rows": 40,
        "columns": 60,
        "spacing_mm": [0.5, 2.0, 3.0],
        "origin_lps_mm": [10.0, 20.0, 30.0],
        "direction_lps": [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]],
    }
    assert written["places_searched"] == [0, 1, 2]
    assert "x2 - x1 + 1" in written["convention"]
    # x: 10 - 0.5 * column, y: 20 + 2 * row, z: 30 - 3 * slice
    best, other = written["detections"]
    assert best == {
        "id": 1,
        "finding": 1,
        "slice": 2,
        "place": 2,
        "file": "c.dcm",
        "score": 0.75,
        "box_px": [4.0, 6.0, 12.0, 8.0],
        "centre_lps_mm": [6.0, 34.0, 24.0],
        "corners_lps_mm": [[8, 32, 24], [4, 32, 24], [4, 36, 24], [8, 36, 24]],
        "size_mm": [4.5, 6.0],
    }
    assert (other["id"], other["slice"], other["score"]) == (2, 1, 0.5)
    assert written["findings"] == [
        {
            "id": 1,
            "score": 0.75,
            "best": 1,
            "detections": [2, 1],
            "slices": [1, 2],
            "places": [1, 2],
            "box_px": [4.0, 6.0, 12.0, 12.0],
            "centre_lps_mm": [6.0, 38.0, 25.5],
            "corners_lps_mm": [
                [8, 32, 27], [4, 32, 27], [4, 44, 27], [8, 44, 27],
                [8, 32, 24], [4, 32, 24], [4, 44, 24], [8, 44, 24],
            ],
            "size_mm": [4.5, 14.0, 6.0],
            "long_axis_mm": 0.56,
        }
    ]  # fmt: skip
    pixels = volume.from_lps(best["corners_lps_mm"])
    np.testing.assert_allclose(pixels[0], [4, 6, 2], atol=1e-9)


def test_tables_have_the_same_numbers(tmp_path):
    write_results(tmp_path, results(scan(files=[f"{i}.dcm" for i in range(9)])), ["json", "csv"])
    written = report(tmp_path)
    rows = rows_of(tmp_path, "detections.csv")
    assert len(rows) == len(written["detections"]) == 4
    for row, same in zip(rows, written["detections"], strict=True):
        assert [float(row[n]) for n in ("x1", "y1", "x2", "y2")] == same["box_px"]
        assert [float(row[f"centre_{axis}_lps_mm"]) for axis in "xyz"] == same["centre_lps_mm"]
        assert [float(row["width_mm"]), float(row["height_mm"])] == same["size_mm"]
        for name in ("id", "finding", "slice", "place", "score"):
            assert float(row[name]) == same[name]
        assert row["file"] == same["file"]
    rows = rows_of(tmp_path, "findings.csv")
    assert len(rows) == len(written["findings"]) == 2
    for row, same in zip(rows, written["findings"], strict=True):
        assert [float(row[n]) for n in ("x1", "y1", "x2", "y2")] == same["box_px"]
        assert [float(row[f"centre_{axis}_lps_mm"]) for axis in "xyz"] == same["centre_lps_mm"]
        assert [float(row[f"{n}_mm"]) for n in ("width", "height", "depth")] == same["size_mm"]
        assert [int(row["first_slice"]), int(row["last_slice"])] == same["slices"]
        assert int(row["detections"]) == len(same["detections"])
        assert float(row["long_axis_mm"]) == same["long_axis_mm"]
        best = written["detections"][same["best"] - 1]
        assert (int(row["best_slice"]), float(row["score"])) == (best["slice"], best["score"])


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("slices,interval", [(9, 2.5), (30, 0.5), (4, 10.0), (1, 5.0)])
def test_corners_are_where_the_boxes_are(tmp_path, direction, slices, interval):
    volume = scan(direction, slices, interval)
    found = results(volume)
    write_results(tmp_path, found, ["json"])
    written = report(tmp_path)
    for entry, (one, _) in zip(written["detections"], found.detections, strict=True):
        x1, y1, x2, y2 = one.box
        expected = [(x, y, one.place) for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]
        np.testing.assert_allclose(volume.from_lps(entry["corners_lps_mm"]), expected, atol=1e-3)
    for entry, finding in zip(written["findings"], found.findings, strict=True):
        voxels = volume.from_lps(entry["corners_lps_mm"])
        np.testing.assert_allclose(
            [*voxels[:4, :2].min(0), *voxels[:4, :2].max(0)], finding.box, atol=1e-3
        )
        np.testing.assert_allclose(voxels[[0, -1], 2], finding.places, atol=1e-3)
        np.testing.assert_allclose(
            volume.from_lps(entry["centre_lps_mm"])[0], voxels.mean(0), atol=1e-3
        )


def test_sizes_go_from_edge_to_edge():
    volume = scan(interval=2.5)
    finding = Finding((Detection(2.4, (1, 2, 3, 4), 0.5), Detection(3.2, (1, 2, 3, 8), 0.4)), 0.8)
    assert size_mm(finding, volume) == pytest.approx((2.1, 4.9, 4.0))  # two places of 2 mm
    np.testing.assert_allclose(volume.from_lps(centre_lps(finding, volume))[0], [2, 5, 2.8])
    assert edges((1, 2, 3, 4)) == (0.5, 1.5, 3.5, 4.5)


def test_the_place_nearest_to_a_slice():
    thick = replace(results(scan()), places=[0.0, 0.4, 0.8, 1.2, 1.6, 2.0])
    assert thick.place_of == {0: 0.0, 1: 0.8, 2: 2.0}
    thin = replace(results(scan()), places=[8.0, 4.0, 0.0])
    assert thin.place_of == {0: 0.0, 4: 4.0, 8: 8.0}


def test_no_findings_and_no_files(tmp_path):
    volume = turned_volume(files=False)
    write_results(tmp_path, ScanResults(volume, [], [0.0]), ["json", "csv"])
    assert report(tmp_path)["findings"] == report(tmp_path)["detections"] == []
    assert len((tmp_path / "detections.csv").read_text().splitlines()) == 1
    assert len((tmp_path / "findings.csv").read_text().splitlines()) == 1
    found = one_finding(Detection(0, (1, 1, 2, 2), 0.5), volume=volume)
    write_results(tmp_path, found, ["json", "csv"])
    assert report(tmp_path)["detections"][0]["file"] is None


def test_a_file_name_that_is_no_text(tmp_path):
    volume = replace(turned_volume(), slice_files=("a.dcm", "b.dcm", "c\udcff.dcm"))
    found = one_finding(Detection(2, (4.0, 6.0, 10.0, 8.0), 0.75), volume=volume)
    write_results(tmp_path, found, ["json", "csv", "coco"])
    assert report(tmp_path)["detections"][0]["file"] == "c\udcff.dcm"
    assert "c\\udcff.dcm" in (tmp_path / "detections.csv").read_text()


def test_a_format_that_is_none(tmp_path):
    with pytest.raises(ValueError, match=r"format must be one of json, .* got 'xml'"):
        write_results(tmp_path, results(scan()), ["xml"])
