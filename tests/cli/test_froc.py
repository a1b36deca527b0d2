import json

import numpy as np
import pytest

from lesionkit.data import DeepLesion, write_dl_info
from lesionkit.evaluation import bootstrap_froc, froc

from ..data.deeplesion.files import row
from .lk import assert_refused, lesionkit, tree

TRUTH = """file_name,patient,x1,y1,x2,y2
a.png,1,10,10,19,19
b.png,1,30,30,39,39
c.png,2,10,10,19,19
d.png,3,,,,
"""
HEADER = "file_name,x1,y1,x2,y2,score\n"
FOUND = HEADER + "a.png,10,10,19,19,.9\nb.png,1,1,5,5,.8\nc.png,10,10,19,15,.7\nd.png,1,1,2,2,.6\n"
OTHER = HEADER + "a.png,10,10,19,19,.9\n"


@pytest.fixture
def files(tmp_path):
    for name, content in (("truth", TRUTH), ("found", FOUND), ("other", OTHER)):
        (tmp_path / name).write_text(content)
    return tmp_path


def run(files, *options, detections="found", truth="truth"):
    return lesionkit("froc", "--detections", files / detections, "--truth", files / truth, *options)


def test_prints_a_table_and_writes_nothing(files):
    before = tree(files)
    code, out, _ = run(files)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "FROC of 3 lesions in 4 images, IoU >= 0.5, mode hold"
    assert lines[2].split()[-7:] == ["66.67"] * 7
    assert lines[3].startswith("95 % interval from")
    assert lines[5] == "1000 resamples of 3 patients"
    assert tree(files) == before
    assert len(run(files, "--replicates", 0)[1].splitlines()) == 3


@pytest.mark.parametrize(
    "options, first",
    [
        (["--fp-per-image", "0.25,1"], ["0.25", "1"]),
        (["--iou-threshold", "0.7"], "IoU >= 0.7"),
        (["--overlap", "iobb"], "IoBB >= 0.5"),
        (["--mode", "strict"], "mode strict"),
        (["--mode", "3dce"], "mode 3dce"),
    ],
)
def test_options_reach_the_measure(files, options, first):
    code, out, err = run(files, *options, "--replicates", 0)
    assert code == 0, err
    head, rates, _ = out.splitlines()
    if isinstance(first, str):
        assert first in head
    else:
        assert rates.split()[4:6] == first


def test_result_folder(files):
    out = files / "out"
    code, _, err = run(
        files, "--out", out, "--seed", 4, "--replicates", 50, "--compare", files / "other"
    )
    assert code == 0, err
    assert {*tree(out)} == {"config.json", "curve.csv", "froc.png", "results.json"}
    config = json.loads((out / "config.json").read_text())
    assert config["command"] == "froc"
    assert config["arguments"]["detections"] == str(files / "found")
    assert config["arguments"]["seed"] == 4
    results = json.loads((out / "results.json").read_text())
    boxes = [[[10, 10, 19, 19]], [[30, 30, 39, 39]], [[10, 10, 19, 19]], []]
    found = [
        [[10, 10, 19, 19, 0.9]],
        [[1, 1, 5, 5, 0.8]],
        [[10, 10, 19, 15, 0.7]],
        [[1, 1, 2, 2, 0.6]],
    ]
    expected = froc(found, boxes)
    intervals = bootstrap_froc(expected, [1, 1, 2, 3], 50, seed=4)
    assert results["sensitivity"] == expected.sensitivity.tolist()
    assert results["mean_sensitivity"] == expected.mean
    assert results["low"] == intervals.low.tolist()
    assert results["mean_high"] == intervals.mean_high
    assert results["intervals"] == {
        "confidence": 0.95, "replicates": 50, "seed": 4, "patients": 3,
    }  # fmt: skip
    assert results["comparison"]["difference"] == pytest.approx([1 / 3] * 6)
    assert (out / "curve.csv").read_text().splitlines()[1:3] == [
        "0.9,0.0,0.3333333333333333",
        "0.8,0.25,0.3333333333333333",
    ]
    refused = run(files, "--out", out)
    assert_refused(refused, "--out", "--overwrite")
    assert run(files, "--out", out, "--overwrite", "--replicates", 0)[0] == 0
    assert "low" not in json.loads((out / "results.json").read_text())


def test_comparison_of_two_runs(files):
    code, out, _ = run(files, "--compare", files / "other")
    assert code == 0
    _, table = out.split("\n\n")
    title, other, difference, low, high, p_value = table.splitlines()
    assert "This run less the other" in title
    assert other.split()[-1] == "33.33"
    assert difference.split()[-1] == "+33.33"
    assert 0 < float(p_value.split()[-1]) <= 1
    assert float(low.split()[-1]) <= 33.33 <= float(high.split()[-1])
    same = run(files, "--compare", files / "found")[1]
    assert same.splitlines()[-1].split()[-7:] == ["1.000"] * 7


def test_deeplesion_as_truth_with_groups(data, tmp_path):
    dataset = DeepLesion(data, split="test")
    rows = [
        ",".join([record.file_name, *map(str, record.boxes[0].tolist()), "0.5"])
        for record in dataset
    ]
    (tmp_path / "found").write_text(HEADER + "\n".join(rows))
    for convention in ("subset", "filter", "threshold"):
        code, out, err = lesionkit(
            *("froc", "--detections", tmp_path / "found", "--truth", data / "DL_info.csv"),
            *("--by", "type", "--by", "diameter", "--by", "interval", "--replicates", 5),
            *("--convention", convention, "--out", tmp_path / convention),
        )
        assert code == 0, err
        assert f"By diameter (long axis), convention {convention}" in out
        results = json.loads((tmp_path / convention / "results.json").read_text())
        assert list(results["groups"]) == ["type", "diameter", "interval"]
        lesions = sum(len(record.boxes) for record in dataset)
        for name in ("type", "diameter"):
            groups = results["groups"][name].values()
            assert sum(group["lesions"] for group in groups) == lesions
            assert any("low" in group for group in groups)
        assert np.all(np.array(results["sensitivity"]) > 0)


@pytest.mark.parametrize(
    "options, words",
    [
        (["--mode", "soft"], ["--mode soft", "hold, 3dce, strict"]),
        (["--overlap", "dice"], ["--overlap dice", "iou, iobb"]),
        (["--iou-threshold", "0"], ["--iou-threshold 0"]),
        (["--iou-threshold", "nan"], ["--iou-threshold nan"]),
        (["--fp-per-image", "1;2"], ["--fp-per-image 1;2"]),
        (["--fp-per-image", "1,-2"], ["--fp-per-image"]),
        (["--fp-per-image", "1,nan"], ["--fp-per-image"]),
        (["--split", "dev"], ["--split dev", "train, val, test, all"]),
        (["--convention", "x"], ["--convention x"]),
        (["--by", "age"], ["--by age", "type, diameter, interval"]),
        (["--by", "type"], ["--by", "DL_info.csv"]),
        (["--axis", "x"], ["--axis x"]),
        (["--replicates", "-1"], ["--replicates"]),
        (["--compare", "other", "--replicates", "0"], ["--compare", "--replicates"]),
        (["--compare", "nowhere"], ["nowhere", "No such file"]),
        (["--out", " "], ["--out"]),
    ],
)
def test_bad_options(files, options, words):
    assert_refused(run(files, *options), *words)


def test_bad_files(files):
    (files / "stranger").write_text(HEADER + "a.png,1,2,3,4,1\nq.png,1,2,3,4,1\n")
    result = run(files, detections="stranger", truth="truth")
    assert_refused(result, str(files / "stranger"), "line 3", "'q.png'", "'a.png'")
    assert_refused(run(files, truth="found"), str(files / "found"), "scores")
    assert_refused(run(files, detections="truth"), str(files / "truth"), "score")
    assert_refused(run(files, detections="none"), str(files / "none"), "detections")


def test_boxes_that_are_elsewhere_are_doubted(files):
    far = FOUND.replace(",10,10,19,1", ",110,110,119,11")
    (files / "far").write_text(far)
    code, out, err = run(files, "--compare", files / "far")
    assert code == 0
    assert out.splitlines()[2].split()[-7:] == ["66.67"] * 7
    (doubt,) = [line for line in err.splitlines() if "pixels" in line]
    assert doubt.startswith(f"{files / 'far'}: the best box touches a lesion on 0 of the 3 images")

    def is_doubted(boxes):
        (files / "far").write_text(HEADER + boxes)
        code, _, err = run(files, "--replicates", 0, detections="far")
        assert code == 0
        return "pixels" in err

    assert is_doubted("a.png,110,10,119,19,1\n")
    assert is_doubted("a.png,110,10,119,19,1\na.png,10,10,19,19,.5\n")
    assert not is_doubted("a.png,110,10,119,19,1\nb.png,39,39,99,99,1\n")  # one pixel
    assert not is_doubted("d.png,1,1,2,2,1\n")  # without a lesion, so there is no telling
    assert not is_doubted("")
    truth = "".join(f"{i}.png,10,10,19,19\n" for i in range(11))
    (files / "truth").write_text("file_name,x1,y1,x2,y2\n" + truth)
    boxes = ["0.png,10,10,19,19,1\n"] + [f"{i}.png,50,50,59,59,1\n" for i in range(1, 11)]
    assert is_doubted("".join(boxes))
    assert not is_doubted("".join(boxes[:10]))


def test_splits_of_one_s_own(files):
    names = [f"00000{patient}_01_02_010.png" for patient in (1, 2, 3)]
    rows = [row(name, Patient_index=int(name[:6])) for name in names]
    write_dl_info(files / "DL_info.csv", rows)
    (files / "splits.csv").write_text("patient,split\n1,train\n3,test\n")
    (files / "found").write_text(HEADER + f"{names[2]},5,3,35,20,.5\n")
    options = ["--split-file", files / "splits.csv"]
    written = ["--out", files / "out", "--replicates", 0]
    code, out, err = run(files, *options, *written, truth="DL_info.csv")
    assert code == 0, err
    assert out.startswith("FROC of 1 lesions in 1 images")
    assert json.loads((files / "out" / "results.json").read_text())["mean_sensitivity"] == 1
    assert "data check" not in err
    arguments = json.loads((files / "out" / "config.json").read_text())["arguments"]
    assert (arguments["split"], arguments["split_file"]) == ("test", str(files / "splits.csv"))
    assert_refused(run(files, *options), "splits.csv", "DL_info.csv", str(files / "truth"))
    write_dl_info(files / "DL_info.csv", rows + rows[2:])
    code, out, err = run(files, *options, "--replicates", 0, truth="DL_info.csv")
    assert out.startswith("FROC of 2 lesions in 1 images")
    assert "1 of 2 boxes repeat an earlier one" in err
