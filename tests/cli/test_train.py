import json
import re
from dataclasses import replace
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import load_file

import lesionkit as package
from lesionkit.models import PRESETS, load_detector
from lesionkit.models import backbone as backbones
from lesionkit.models.backbone import VGG16Backbone
from lesionkit.training import TRAINING_PRESETS, TrainingConfig

from .lk import assert_refused, lesionkit, tree

RESULTS = {
    *("config.json", "last.safetensors", "metrics.jsonl", "weights.safetensors"),
    "tensorboard/events.out.tfevents",
}


def names(folder):
    """The files in a folder; the names of events without time and machine."""
    return {re.sub(r"(tfevents)\..*", r"\1", name) for name in tree(folder)}


def test_result_folder(trained, data):
    assert names(trained) == RESULTS
    config = json.loads((trained / "config.json").read_text())
    assert config["lesionkit"] == package.__version__
    assert config["command"] == "train"
    assert config["arguments"] == {"data": str(data), "preset": "tiny", "device": "auto"}
    assert config["training"]["epochs"] == 2
    assert config["training"]["learning_rate"] == TRAINING_PRESETS["tiny"].learning_rate
    assert len((trained / "metrics.jsonl").read_text().splitlines()) == 2
    assert load_detector(trained / "weights.safetensors").config == PRESETS["tiny"]


def test_same_seed_same_weights(trained, data, tmp_path):
    arguments = ("train", "--data", data, "--preset", "tiny", "--epochs", 2, "--device", "cpu")
    assert lesionkit(*arguments, "--out", tmp_path / "a", "--seed", 3)[0] == 0
    weights = load_file(trained / "weights.safetensors")
    again = load_file(tmp_path / "a" / "weights.safetensors")
    assert all(torch.equal(again[name], value) for name, value in weights.items())


def test_from_one_scan(series, tmp_path):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("slice,x1,y1,x2,y2\n3,20,20,30,30\n4,20,20,31,30\n")
    out = tmp_path / "out"
    code, stdout, err = lesionkit(
        *("train", "--scan", series, "--boxes", boxes, "--out", out),
        *("--preset", "tiny", "--epochs", 1, "--batch-size", 2),
    )
    assert code == 0, err
    assert str(out / "weights.safetensors") in stdout
    assert json.loads((out / "config.json").read_text())["arguments"]["boxes"] == str(boxes)


@pytest.mark.parametrize(
    "options,words",
    [
        (["--preset", "huge"], ["preset huge", "tiny"]),
        (["--backbone-weights", "vgg.pth"], ["--backbone-weights vgg.pth", "imagenet, none"]),
        (["--backbone-weights", "imagenet"], ["backbone_weights", "'vgg16' only"]),
        (["--backbone-weights", "no.onnx"], ["--backbone-weights no.onnx", "no such file"]),
        (["--slices", "12"], ["--slices 12", "3, 9, 15, 21 or 27"]),
        (["epochs=2"], ["unknown key epochs", "training.epochs"]),
        (["training.epochs"], ["training.epochs", "must be key=value"]),
        (["--config", "no.yaml"], ["no.yaml", "give a YAML file"]),
        (["--epochs", "0"], ["epochs"]),
        (["--learning-rate", "-1"], ["learning_rate"]),
        (["--device", "tpu"], ["--device tpu"]),
        (["--device", "cuda:"], ["--device"]),
        (["--device", "cuda:99"], ["--device cuda:99", "--device cpu"]),
        (["--boxes", "b.csv"], ["either --data", "or --scan with --boxes"]),
        (["--data", "nowhere"], ["nowhere"]),
        (["--split-file", "none.csv"], ["none.csv", "No such file"]),
        (["--backbone", "x"], ["--backbone"]),
    ],
)
def test_bad_input_writes_nothing(data, tmp_path, options, words):
    out = tmp_path / "out"
    arguments = ["train", "--data", data, "--out", out, "--preset", "tiny", *options]
    assert_refused(lesionkit(*arguments), *words)
    assert not out.exists()


def test_neither_data_nor_scan(tmp_path):
    assert_refused(lesionkit("train", "--out", tmp_path / "out"), "--data", "--scan")


def test_results_do_not_go_into_the_scan(series, tmp_path):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("slice,x1,y1,x2,y2\n3,20,20,30,30\n")
    result = lesionkit("train", "--scan", series, "--boxes", boxes, "--out", series / "out")
    assert_refused(result, "--out", "outside")


def test_missing_pretrained_weights_write_nothing_and_name_the_way_out(data, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    out = tmp_path / "out"
    code, _, err = lesionkit("train", "--data", data, "--out", out)
    assert code == 2
    assert "lesionkit: error: could not fetch" in err
    assert "no route to host" in err
    assert "--backbone-weights none" in err
    assert not out.exists()


def test_random_backbone_needs_no_weights(data, tmp_path, monkeypatch):
    """A VGG16 of a few channels, or this would be the slowest test of all."""
    narrow = replace(PRESETS["tiny"], backbone="vgg16", backbone_weights="torchvision")
    monkeypatch.setitem(PRESETS, "tiny", narrow)
    small = [4, "M", 4, "M", 4, "M", 512, "M", 512]
    monkeypatch.setitem(backbones.cfgs, "D", small)
    monkeypatch.setattr(VGG16Backbone, "load_imagenet", lambda *_: pytest.fail("fetched"))
    out = tmp_path / "out"
    code, _, err = lesionkit(
        *("train", "--data", data, "--out", out, "--preset", "tiny", "--epochs", 1),
        *("--backbone-weights", "none"),
    )
    assert code == 0, err
    assert json.loads((out / "config.json").read_text())["detector"]["backbone_weights"] is None


def test_divergence_keeps_what_there_is(data, tmp_path, monkeypatch):
    monkeypatch.setitem(
        TRAINING_PRESETS, "tiny", TrainingConfig(learning_rate=10.0, gradient_clip=1e9)
    )
    out = tmp_path / "out"
    code, _, err = lesionkit(
        "train", "--data", data, "--out", out, "--preset", "tiny", "--epochs", 50
    )
    assert code == 1
    assert "lesionkit: error: training diverged at step" in err
    assert str(out / "unfinished") in err
    assert names(out) >= {"unfinished/config.json", "unfinished/metrics.jsonl"}
    # It is no result and in nobody's way; a run that may replace results removes it too.
    again = ("train", "--data", data, "--out", out, "--preset", "tiny", "--epochs", 1)
    monkeypatch.undo()
    assert lesionkit(*again)[0] == 0
    assert names(out) >= {*RESULTS, "unfinished/metrics.jsonl"}
    assert lesionkit(*again, "--overwrite")[0] == 0
    assert names(out) == RESULTS


@pytest.mark.parametrize(
    "error,code",
    [
        (ModuleNotFoundError("No module", name="lightning_fabric"), 2),
        (OSError(28, "No space left on device"), 2),
        (KeyboardInterrupt(), 130),
        (FloatingPointError("diverged"), 1),
    ],
)
def test_a_failed_run_does_not_block_the_next(data, tmp_path, monkeypatch, error, code):
    def fail(*_):
        raise error

    monkeypatch.setattr("lesionkit.training.loop.training_step", fail)
    arguments = ("train", "--data", data, "--preset", "tiny", "--epochs", 1, "--out")
    assert lesionkit(*arguments, tmp_path / "out")[0] == code
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    assert lesionkit(*arguments, tmp_path / "out")[0] == 0


def test_an_interrupted_run_keeps_its_best_weights(data, tmp_path, monkeypatch):
    from lesionkit.training import loop

    def interrupt_in_epoch_2(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return step(*arguments)

    step, calls = loop.training_step, []
    monkeypatch.setattr(loop, "training_step", interrupt_in_epoch_2)
    monkeypatch.setitem(
        TRAINING_PRESETS, "tiny", replace(TRAINING_PRESETS["tiny"], validate_every=1)
    )
    out = tmp_path / "out"
    code, _, err = lesionkit(
        *("train", "--data", data, "--preset", "tiny", "--epochs", 3, "--out", out)
    )
    assert code == 130
    assert err.splitlines()[-1] == (
        f"lesionkit: error: interrupted; what was written so far is in {out / 'unfinished'}; "
        "lesionkit train --resume goes on with it"
    )
    assert load_detector(out / "unfinished" / "weights.safetensors").config == PRESETS["tiny"]
