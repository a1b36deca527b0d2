import json
import sys

import onnx
import onnxruntime
import pytest
import torch

from lesionkit.deploy import read_metadata
from lesionkit.models import load_detector

from .lk import assert_refused, lesionkit, tree


@pytest.fixture(scope="module")
def weights(trained):
    return trained / "weights.safetensors"


@pytest.fixture(scope="module")
def result(weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "out"
    options = ("--format", "onnx", "--image-size", "40x48")
    code, stdout, err = lesionkit("export", "--weights", weights, "--out", out, *options)
    assert code == 0, err
    assert stdout == f"native form, float32: {out / 'detector.onnx'}\n"
    return out


def test_files(result, weights):
    assert {*tree(result)} == {"config.json", "detector.onnx"}
    config = json.loads((result / "config.json").read_text())
    assert config["command"] == "export"
    assert config["arguments"]["image_size"] == "40x48"
    assert config["detector"]["backbone"] == "small"
    metadata = read_metadata(result / "detector.onnx")
    assert (metadata["form"], metadata["image_size"]) == ("native", [40, 48])
    assert metadata["config"] == config["detector"]


def test_the_file_runs(result, weights):
    onnx.checker.check_model(onnx.load(result / "detector.onnx"))
    images = torch.randn(2, 3, 3, 40, 48, generator=torch.Generator().manual_seed(0)) * 40
    session = onnxruntime.InferenceSession(
        result / "detector.onnx", providers=["CPUExecutionProvider"]
    )
    boxes, _, count = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        expected = load_detector(weights)(images)
    assert count.tolist() == [len(found["boxes"]) for found in expected]
    best = torch.stack([found["boxes"][0] for found in expected])
    torch.testing.assert_close(torch.from_numpy(boxes[:, 0]), best, rtol=0, atol=0.05)


def test_no_overwriting(result, weights):
    before = tree(result)
    refused = lesionkit("export", "--weights", weights, "--out", result)
    assert_refused(refused, f"--out {result}", "--overwrite")
    assert tree(result) == before


def test_weights_stay(trained, weights):
    before = tree(trained)
    refused = lesionkit("export", "--weights", weights, "--out", trained, "--overwrite")
    assert_refused(refused, "lesionkit train", "name another folder")
    assert tree(trained) == before


@pytest.mark.parametrize(
    "options,words",
    [
        (["--format", "coreml"], ["--format coreml", "onnx"]),
        (["--form", "both"], ["--form both", "native or plugin"]),
        (["--precision", "int8"], ["--precision int8", "float32 or float16"]),
        (["--image-size", "40x"], ["--image-size 40x", "N or HEIGHTxWIDTH"]),
        (["--image-size", "-8"], ["--image-size -8"]),
        (["--image-size", "1x2x3"], ["--image-size 1x2x3"]),
        (["--image-size", "0"], ["--image-size 0", "from 1 to 16384"]),
        (["--image-size", "64x0"], ["--image-size 64x0", "from 1 to 16384"]),
        (["--image-size", "16385"], ["--image-size 16385", "from 1 to 16384"]),
        (["--image-size", "9" * 5000], ["--image-size 999", "from 1 to 16384"]),
        (["--image-size", "3x48"], ["--image-size: image_size", "from 4 to", "(3, 48)"]),
        (["--weights", "none.safetensors"], ["none.safetensors"]),
        (["--out", ""], ["--out"]),
    ],
)
def test_bad_input_writes_nothing(weights, tmp_path, monkeypatch, options, words):
    monkeypatch.setattr("lesionkit.deploy.export_onnx", None)
    out = tmp_path / "out"
    refused = lesionkit("export", "--weights", weights, "--out", out, *options)
    assert_refused(refused, *words)
    assert not out.exists()


def test_weights_of_another_program(weights, tmp_path):
    from safetensors.torch import load_file, save_file

    save_file(load_file(weights), tmp_path / "strange.safetensors")
    refused = lesionkit(
        "export", "--weights", tmp_path / "strange.safetensors", "--out", tmp_path / "out"
    )
    assert_refused(refused, "strange.safetensors", "lesionkit-detector-1")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["onnx", "onnxscript"])
def test_missing_packages(weights, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    refused = lesionkit("export", "--weights", weights, "--out", tmp_path / "out")
    assert_refused(refused, f"package {name}", 'pip install "lesionkit[deploy]"')
    assert not (tmp_path / "out").exists()
