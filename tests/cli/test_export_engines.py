"""``lesionkit export`` for TensorRT and Triton. What is exported is a small graph in the detector's
place; tests/deploy has the real ones."""

import json
from importlib.util import find_spec

import pytest

from lesionkit.deploy import plugins
from lesionkit.deploy.plan import write_description
from lesionkit.models import LesionDetector
from lesionkit.models.weights import save_detector
from tests.deploy.graphs import set_metadata, write_graph

from .lk import assert_refused, lesionkit, tree

needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="no tensorrt_rtx")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_detector(LesionDetector("tiny"), path)
    return path


@pytest.fixture
def export(monkeypatch, tmp_path, weights):
    """Run the verb: tree of files, standard output."""

    def write(model, path, *, form, image_size, precision):
        run.exports += 1
        config = json.loads(json.dumps(model.config.to_dict()))
        about = {
            "version": "1",
            "preset": "tiny",
            "form": form,
            "precision": precision,
            "image_size": image_size or (32, 32),
            "class_names": ["lesion"],
            "preprocessing": config["preprocessing"],
            "config": config,
        }
        half = precision == "float16"
        set_metadata(write_graph(path, half=half, **run.graph), about)

    def run(*options):
        return lesionkit("export", "--weights", weights, "--out", tmp_path / "out", *options)

    monkeypatch.setattr("lesionkit.deploy.export_onnx", write, raising=False)
    run.out, run.exports, run.graph = tmp_path / "out", 0, {}
    return run


@needs_rtx
def test_tensorrt(export):
    code, out, err = export(
        *("--format", "tensorrt", "--runtime", "tensorrt_rtx", "--precision", "float16"),
        *("--batch", "1,2,5", "--compute-capability", "86,89"),
    )
    assert code == 0, err
    assert out == f"native form, float16: {export.out / 'detector.plan'}\n"
    assert "building the engine with tensorrt_rtx" in err
    files = tree(export.out)
    names = ["config.json", "detector.onnx", "detector.plan", "detector.plan.json"]
    assert sorted(files) == names
    about = json.loads(files["detector.plan.json"])
    assert (about["runtime"], about["batch"]) == ("tensorrt_rtx", [1, 2, 5])
    assert about["compute_capability"] == [86, 89]
    assert about["bytes"] == len(files["detector.plan"])
    assert about["detector"]["precision"] == "float16"
    config = json.loads(files["config.json"])
    assert config["files"] == names
    assert config["arguments"]["batch"] == "1,2,5"
    assert_refused(export("--format", "tensorrt"), "--overwrite")


@needs_rtx
def test_failure_of_the_builder_leaves_nothing(export, weights):
    """And what it says names what is there then."""
    export.graph = {"node": "Nonsense", "domain": "lesionkit"}
    refused = export("--format", "tensorrt", "--runtime", "tensorrt_rtx")
    assert_refused(refused, f"error: {weights}: tensorrt_rtx cannot parse it", "Nonsense")
    assert "unfinished" not in refused[2]
    assert not export.out.exists()


@needs_rtx
def test_gpus_that_the_builder_does_not_know_are_refused_at_once(export):
    refused = export(
        "--format", "tensorrt", "--runtime", "tensorrt_rtx", "--compute-capability", "89,90"
    )
    assert_refused(refused, "--compute-capability 90: tensorrt_rtx", "builds for 75, 80")
    assert not export.out.exists()
    assert export.exports == 0


def test_triton_where_tensorrt_is_not(export, monkeypatch):
    monkeypatch.setattr("lesionkit.deploy.runtimes.why_not", lambda name: "is not installed")
    code, out, err = export("--format", "triton", "--batch", "1,2,3")
    assert code == 0, err
    assert "TensorRT is not installed here: README.md says how to build the engine" in out
    files = tree(export.out)
    model = "models/lesion_detector/config.pbtxt"
    assert sorted(files) == ["README.md", "config.json", "detector.onnx", model]
    assert b"max_batch_size: 3\n" in files[model]


def test_triton_where_tensorrt_is(export, monkeypatch):
    """With TensorRT's builder, which CI has not, replaced."""

    def build(onnx, plan, *, runtime, batch, compute_capability):
        from lesionkit.deploy import read_metadata

        plan.write_bytes(b"a plan")
        about = {"runtime": runtime, "batch": [*batch], "detector": read_metadata(onnx)}
        write_description(plan, about)

    monkeypatch.setattr("lesionkit.deploy.runtimes.why_not", lambda name: None)
    monkeypatch.setattr("lesionkit.deploy.build_engine", build, raising=False)
    code, out, err = export("--format", "triton", "--batch", "1,4,8")
    assert code == 0, err
    assert out == f"native form, float32: {export.out / 'README.md'}\n"
    files = tree(export.out)
    assert files["models/lesion_detector/1/model.plan"] == b"a plan"
    assert b"max_batch_size: 8\n" in files["models/lesion_detector/config.pbtxt"]
    assert export("--format", "triton", "--batch", "1,1,2", "--overwrite")[0] == 0


@pytest.mark.parametrize("format", ["tensorrt", "triton"])
def test_plugins_that_are_not_built(export, monkeypatch, tmp_path, format):
    monkeypatch.setattr(plugins, "LIBRARY", tmp_path / "none.so")
    refused = export("--format", format, "--form", "plugin")
    assert_refused(refused, "--form plugin: none.so is not built", "native form")
    assert not export.out.exists()


@pytest.mark.parametrize(
    "options,words",
    [
        (["--format", "engine"], ["--format engine", "onnx or tensorrt or triton"]),
        (["--batch", "1,2,3"], ["--batch 1,2,3", "no meaning with --format onnx"]),
        (["--runtime", "tensorrt"], ["--runtime tensorrt", "--format onnx"]),
        (["--format", "triton", "--runtime", "tensorrt"], ["--runtime tensorrt", "triton"]),
        (["--format", "triton", "--compute-capability", "89"], ["--compute-capability 89"]),
        (["--format", "tensorrt", "--batch", "0,1,2"], ["--batch 0,1,2", "LEAST,USUAL,LARGEST"]),
        (["--format", "tensorrt", "--batch", "4"], ["--batch 4", "LEAST,USUAL,LARGEST"]),
        (["--format", "tensorrt", "--batch", "1,3,2"], ["--batch 1,3,2", "rising"]),
        (["--format", "tensorrt", "--batch", "1,,2"], ["--batch 1,,2", "whole numbers"]),
        (["--format", "tensorrt", "--batch", ""], ["--batch", "whole numbers"]),
        (["--format", "tensorrt", "--compute-capability", "8.9"], ["8.9", "whole numbers"]),
        (["--format", "tensorrt", "--runtime", "trt"], ["runtime 'trt'", "tensorrt_rtx"]),
        (["--format", "triton", "--batch", "2,2,4"], ["--batch 2,2,4", "single samples"]),
        (["--format", "tensorrt", "--batch", f"1,1,{10**9}"], ["--batch 1,1,1000000000"]),
        (["--format", "triton", "--batch", "1,1,99999"], ["--batch", "[99999, 3, 3, 192, 192]"]),
        (["--format", "triton", "--image-size", "0"], ["--image-size 0", "from 1 to"]),
        (["--format", "triton", "--image-size", "3"], ["--image-size", "from 4 to"]),
    ],
)
def test_wrong_options(export, options, words):
    """Refused before anything is written or exported."""
    assert_refused(export(*options), *words)
    assert not export.out.exists()
    assert export.exports == 0
