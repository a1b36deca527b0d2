import csv
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lesionkit.cli.detect import parse_slices
from lesionkit.data import read_ct
from lesionkit.errors import InputError

from .lk import assert_refused, lesionkit, tree


@pytest.fixture(scope="module")
def result(series, trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("detect") / "out"
    code, stdout, err = lesionkit(
        *("detect", series, "--weights", trained / "weights.safetensors", "--out", out),
        *("--slices", "2:8:2", "--score-threshold", 0.01, "--max-findings", 7),
        *("--format", "csv,coco", "--format", "json"),
    )
    assert code == 0, err
    assert "7 findings on 3 slices; the best on slice" in stdout
    return out


def test_files(result):
    assert {*tree(result)} == {
        "config.json", "detections.csv", "detections.json", "findings.csv", "overlay.png",
        "coco_images.json", "coco_results.json",
    }  # fmt: skip
    config = json.loads((result / "config.json").read_text())
    assert config["arguments"]["slices"] == "2:8:2"
    assert config["arguments"]["formats"] == ["json", "csv", "coco"]
    assert config["detector"]["backbone"] == "small"


def test_json(result, series, trained):
    report = json.loads((result / "detections.json").read_text())
    assert report["slices_searched"] == [2, 8, 2]
    assert (report["score_threshold"], report["max_findings"]) == (0.01, 7)
    assert report["model"]["weights"] == "weights.safetensors"
    assert len(report["model"]["sha256"]) == 64
    volume = read_ct(series)
    findings = report["findings"]
    assert [finding["id"] for finding in findings] == list(range(1, 8))
    for found in (findings, report["detections"]):
        scores = [one["score"] for one in found]
        assert scores == sorted(scores, reverse=True)
    members = [number for finding in findings for number in finding["detections"]]
    assert sorted(members) == list(range(1, len(report["detections"]) + 1))
    for one in report["detections"]:
        assert one["slice"] in (2, 4, 6)
        assert one["file"] == volume.slice_files[one["slice"]]
        assert one["place"] == pytest.approx(
            min(report["places_searched"], key=lambda place: abs(place - one["place"]))
        )
        x1, y1, x2, y2 = one["box_px"]
        assert -1 <= x1 < x2 <= 64
        assert -1 <= y1 < y2 <= 64
        corner = volume.to_lps([[x1, y1, one["place"]]])[0]
        assert one["corners_lps_mm"][0] == pytest.approx(corner, abs=0.01)
    with open(result / "detections.csv", newline="") as stream:
        assert [float(row["score"]) for row in csv.DictReader(stream)] == scores


def test_overlay_is_a_picture(result):
    from PIL import Image

    with Image.open(result / "overlay.png") as picture:
        assert picture.width > 512
        assert picture.height > 512


def test_no_finding_is_a_result_too(series, trained, tmp_path):
    code, stdout, err = lesionkit(
        *("detect", series, "--weights", trained / "weights.safetensors"),
        *("--out", tmp_path / "out", "--slices", "3:4", "--score-threshold", 1),
    )
    assert code == 0, err
    assert stdout.startswith("0 findings on 1 slices")
    assert (tmp_path / "out" / "overlay.png").exists()


@pytest.mark.parametrize(
    "options,words",
    [
        (["--slices", "5"], ["--slices 5", "A:B"]),
        (["--slices", "900:"], ["--slices 900:", "none of slices 0.."]),
        (["--out", ""], ["--out", "must name a folder"]),
        (["--score-threshold", "1.5"], ["--score-threshold"]),
        (["--score-threshold", "nan"], ["--score-threshold"]),
        (["--max-findings", "0"], ["--max-findings"]),
        (["--format", "json,xml"], ["--format xml", "dicom-sr"]),
        (["--format", "dicom-sr"], ["no axial DICOM slices"]),
        (["--worklist", "list.txt"], ["--worklist list.txt", "not both"]),
        (["--device", "gpu"], ["--device gpu"]),
        (["--weights", "none.safetensors"], ["none.safetensors"]),
        (["--series", "800-900"], ["800-900"]),
    ],
)
def test_bad_input_writes_nothing(series, trained, tmp_path, options, words):
    out = tmp_path / "out"
    weights = ["--weights", trained / "weights.safetensors"]
    assert_refused(lesionkit("detect", series, *weights, "--out", out, *options), *words)
    assert not out.exists()


def test_overwrite_does_not_take_the_weights(series, trained):
    before = tree(trained)
    weights = ["--weights", trained / "weights.safetensors"]
    result = lesionkit("detect", series, *weights, "--out", trained, "--overwrite")
    assert_refused(result, "lesionkit train", "name another folder")
    assert tree(trained) == before


@pytest.mark.parametrize("name", ["no/such/folder", "notes.txt"])
def test_what_is_no_scan(trained, tmp_path, name):
    (tmp_path / "notes.txt").write_text("no scan")
    weights = trained / "weights.safetensors"
    result = lesionkit("detect", tmp_path / name, "--weights", weights, "--out", tmp_path / "out")
    assert_refused(result, name)
    assert not (tmp_path / "out").exists()


def test_pickled_weights_are_refused_unopened(series, tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    torch.save(Trap(), tmp_path / "weights.pt")
    out = tmp_path / "out"
    refused = lesionkit("detect", series, "--weights", tmp_path / "weights.pt", "--out", out)
    assert_refused(refused, "pickle", "safetensors")
    assert not (tmp_path / "sprung").exists()
    assert not out.exists()


@pytest.mark.parametrize(
    "text,expected",
    [
        (None, range(10)),
        ("2:5", range(2, 5)),
        (":", range(10)),
        (":3", range(3)),
        ("8:99", range(8, 10)),
        ("-2:", range(8, 10)),
        ("::4", range(0, 10, 4)),
        ("1:9:", range(1, 9)),
        ("5:5", range(0)),
    ],
)
def test_slices(text, expected):
    assert range(10)[parse_slices(text)] == expected


@pytest.mark.parametrize("text", ["", "3", "a:b", "1:2:0", "5:1:-1", "1:2:3:4", "1.5:"])
def test_slices_that_are_none(text, tmp_path):
    with pytest.raises(InputError, match="must be A:B"):
        parse_slices(text)
    # Before the scan and the weights are read: they are not even there.
    result = lesionkit(
        *("detect", tmp_path / "scan", "--weights", "none", "--out", tmp_path / "out"),
        *("--slices", text),
    )
    assert_refused(result, f"--slices {text}")


def test_results_do_not_go_into_the_scan(series, trained):
    before = tree(series)
    weights = ["--weights", trained / "weights.safetensors"]
    for out in (series / "out", series / ".." / series.name / "a" / "b", series):
        result = lesionkit("detect", series, *weights, "--out", out, "--overwrite")
        assert_refused(result, f"--out {out}", "outside")
    assert tree(series) == before


def test_broken_weights_are_no_empty_result(series, trained, tmp_path):
    tensors = load_file(trained / "weights.safetensors")
    tensors["rpn.classes.bias"][0] = torch.nan
    with safe_open(trained / "weights.safetensors", framework="pt") as file:
        save_file(tensors, tmp_path / "nan.safetensors", file.metadata())
    out = tmp_path / "out"
    result = lesionkit("detect", series, "--weights", tmp_path / "nan.safetensors", "--out", out)
    assert_refused(result, "nan.safetensors", "rpn.classes.bias", "not finite")
    assert not out.exists()


def test_scans_too_small_for_the_network(trained, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    for shape, spacing in (((4, 64, 64), 0.01), ((4, 2, 2), 1.0), ((4, 3, 512), 1.0)):
        image = sitk.GetImageFromArray(np.zeros(shape, np.int16))
        image.SetSpacing((spacing, spacing, 1.0))
        sitk.WriteImage(image, tmp_path / "scan.nrrd")
        result = lesionkit(
            *("detect", tmp_path / "scan.nrrd", "--out", tmp_path / "out"),
            *("--weights", trained / "weights.safetensors"),
        )
        code, _, err = result
        assert (code, err.splitlines()[-1].count("scan.nrrd")) == (2, 1), err
        assert "the network needs 4 x 4" in err
        assert not (tmp_path / "out").exists()
