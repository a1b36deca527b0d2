import json

import numpy as np
import pytest

from lesionkit.data import DeepLesion
from lesionkit.models import DetectorConfig, LesionDetector
from lesionkit.models.weights import save_detector
from lesionkit.visualize.overlay import DETECTION, TRUTH

from .lk import assert_refused, lesionkit, tree

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def weights(trained):
    return trained / "weights.safetensors"


def has(path, colour):
    with Image.open(path) as picture:
        return bool((np.asarray(picture.convert("RGB")) == colour).all(-1).any())


def test_attention_of_an_image(weights, data, tmp_path):
    record = max(DeepLesion(data), key=lambda record: len(record.lesions))
    code, printed, err = lesionkit(
        *("view", "attention", "--weights", weights, "--data", data),
        *("--image", record.file_name, "--out", tmp_path / "out"),
    )
    assert code == 0, err
    names = [f"contextual-{number}.png" for number, _ in enumerate(record.lesions, 1)]
    assert {*tree(tmp_path / "out")} == {"config.json", "spatial.png", *names}
    assert [*map(str, printed.split())] == [
        str(tmp_path / "out" / n) for n in (*names, "spatial.png")
    ]
    for name in (*names, "spatial.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.width == 1200
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["arguments"]["image"] == record.file_name


def test_attention_of_a_slice(weights, series, tmp_path):
    arguments = (
        "view",
        "attention",
        "--weights",
        weights,
        "--scan",
        series,
        "--out",
        tmp_path / "o",
    )
    code, _, err = lesionkit(*arguments, "--slice", 5, "--box", "20,20,40,35", "--window", "bone")
    assert code == 0, err
    own = tree(tmp_path / "o")
    code, _, err = lesionkit(*arguments, "--slice", 5, "--overwrite")  # on the best detection
    assert code == 0, err
    assert {*tree(tmp_path / "o")} == {"config.json", "contextual-1.png", "spatial.png"}
    assert tree(tmp_path / "o")["contextual-1.png"] != own["contextual-1.png"]
    assert_refused(
        lesionkit(*arguments, "--slice", 999, "--overwrite"), "--slice 999", "slices 0.."
    )


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--data", "d"], ["--image"]),
        (["--scan", "s"], ["--slice"]),
        ([], ["--data", "--scan"]),
        (["--scan", "s", "--slice", 3, "--data", "d", "--image", "i"], ["either"]),
        (["--scan", "s", "--slice", 3, "--box", "1,2,3"], ["--box 1,2,3", "x1,y1,x2,y2"]),
        (["--scan", "s", "--slice", 3, "--box", "9,2,3,4"], ["--box 9,2,3,4"]),
        (["--scan", "s", "--slice", 3, "--window", "liver"], ["--window", "lung, soft-tissue"]),
    ],
)
def test_wrong_arguments_of_attention(arguments, words, weights, tmp_path):
    result = lesionkit(
        "view", "attention", "--weights", weights, "--out", tmp_path / "out", *arguments
    )
    assert_refused(result, *words)
    assert not (tmp_path / "out").exists()


def test_unknown_image_and_a_detector_without_attention(weights, data, tmp_path):
    arguments = ("--data", data, "--out", tmp_path / "out", "--image")
    result = lesionkit("view", "attention", "--weights", weights, *arguments, "no.png")
    assert_refused(result, "--image no.png", "000001_")
    plain = LesionDetector("tiny").config.to_dict() | {"contextual": False, "spatial": False}
    save_detector(LesionDetector(DetectorConfig.from_dict(plain)), tmp_path / "plain.safetensors")
    name = DeepLesion(data)[0].file_name
    result = lesionkit(
        "view", "attention", "--weights", tmp_path / "plain.safetensors", *arguments, name
    )
    assert_refused(result, "plain.safetensors", "without attention")
    assert not (tmp_path / "out").exists()


def test_detections_of_an_evaluation(eval_result, data, tmp_path):
    code, printed, err = lesionkit(
        "view", "detections", eval_result, "--out", tmp_path / "out", "--pictures", 4
    )
    assert code == 0, err
    assert printed.startswith("4 pictures: ")
    picture = tmp_path / "out" / "detections.png"
    assert {*tree(tmp_path / "out")} == {"config.json", "detections.png"}
    assert has(picture, TRUTH)
    with Image.open(picture) as drawn:
        assert drawn.width == 1200
    name = DeepLesion(data)[1].file_name
    code, _, err = lesionkit(
        *("view", "detections", eval_result, "--out", tmp_path / "one", "--image", name),
        *("--window", "-500,500", "--score-threshold", 0.5),
    )
    assert code == 0, err
    result = lesionkit("view", "detections", eval_result, "--out", tmp_path / "n", "--image", "no")
    assert_refused(result, "--image no")


def test_a_data_set_alone_shows_its_truth(data, tmp_path):
    code, _, err = lesionkit("view", "detections", data, "--out", tmp_path / "out")
    assert code == 0, err
    assert has(tmp_path / "out" / "detections.png", TRUTH)


def test_detections_of_a_scan(detect_result, series, tmp_path):
    code, _, err = lesionkit(
        "view", "detections", detect_result, "--out", tmp_path / "a", "--pictures", 2
    )
    assert code == 0, err
    assert has(tmp_path / "a" / "detections.png", DETECTION)
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("slice,x1,y1,x2,y2\n4,10,10,30,30\n")
    code, _, err = lesionkit(
        *("view", "detections", detect_result, "--out", tmp_path / "b", "--boxes", boxes),
        *("--scan", series, "--slice", 4, "--slice", 6),
    )
    assert code == 0, err
    picture = tmp_path / "b" / "detections.png"
    assert has(picture, TRUTH)
    assert not has(picture, DETECTION)
    arguments = ("view", "detections", detect_result, "--out", tmp_path / "c")
    assert_refused(lesionkit(*arguments, "--slice", 99), "--slice 99")
    assert_refused(lesionkit(*arguments, "--scan", tmp_path / "none"), "none", "--scan")


def test_folders_that_hold_no_results(trained, data, detect_result, tmp_path):
    out = ("--out", tmp_path / "out")
    assert_refused(lesionkit("view", "detections", tmp_path / "no", *out), "no such folder")
    assert_refused(lesionkit("view", "detections", tmp_path, *out), "config.json")
    assert_refused(lesionkit("view", "detections", trained, *out), "detections.json", "eval")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("[1]")
    assert_refused(lesionkit("view", "detections", other, *out), "config.json")
    (other / "config.json").write_bytes((detect_result / "config.json").read_bytes())
    report = json.loads((detect_result / "detections.json").read_text())
    for damage in (
        {"format": "lesionkit-detections-1"},
        {"findings": [{"id": 1}]},
        {"detections": [{"box_px": [0, 0, 1], "score": 1}]},
        {"scan": {**report["scan"], "rows": 63}},
    ):
        (other / "detections.json").write_text(json.dumps(report | damage))
        assert_refused(lesionkit("view", "detections", other, *out), "detections.json")
    (other / "summary.json").write_text("{}")
    assert_refused(lesionkit("view", "detections", other, *out), "several scans")
