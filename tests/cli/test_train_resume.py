"""``lesionkit train --resume``, and where its config comes from."""

import csv
import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from lesionkit.data import DeepLesion
from lesionkit.data.deeplesion import read_dl_info
from lesionkit.models import load_detector
from lesionkit.training import TRAINING_PRESETS, loop
from lesionkit.training.checkpoint import load_checkpoint

from .lk import assert_refused, lesionkit, tree

OPTIONS = ("--preset", "tiny", "--epochs", 3, "--seed", 3, "--device", "cpu")


@pytest.fixture(autouse=True)
def every_step(monkeypatch):
    config = replace(TRAINING_PRESETS["tiny"], checkpoint_every=0, validate_every=1)
    monkeypatch.setitem(TRAINING_PRESETS, "tiny", config)


@pytest.fixture
def stopped(data, tmp_path, monkeypatch):
    """A result folder in which a run was stopped in its second epoch."""

    def interrupt(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return step(*arguments)

    step, calls = loop.training_step, []
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "training_step", interrupt)
        code, _, err = lesionkit("train", "--data", data, "--out", out, *OPTIONS)
    assert code == 130
    assert err.endswith(f"is in {out / 'unfinished'}; lesionkit train --resume goes on with it\n")
    return out


def weights(folder):
    return load_file(folder / "weights.safetensors")


def test_goes_on_with_nothing_but_its_folder(data, stopped, tmp_path):
    (stopped / "unfinished" / ".last-abcd1234.safetensors").write_text("half of a checkpoint")
    code, out, err = lesionkit("train", "--resume", "--out", stopped)
    assert code == 0, err
    assert "epoch " in out
    assert not (stopped / "unfinished").exists()
    config = json.loads((stopped / "config.json").read_text())
    assert config["arguments"] == {"data": str(data), "preset": "tiny", "device": "cpu"}
    assert config["training"]["epochs"] == 3
    assert {*config["files"]} == {*tree(stopped)}
    whole = tmp_path / "whole"
    assert lesionkit("train", "--data", data, "--out", whole, *OPTIONS)[0] == 0
    assert (stopped / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(stopped).items())


def test_the_same_command_line_begins_and_goes_on(data, stopped, tmp_path):
    arguments = ("train", "--data", data, *OPTIONS, "--resume", "training.cache_gib=1", "--out")
    assert lesionkit(*arguments, stopped)[0] == 0
    code, _, err = lesionkit(*arguments, tmp_path / "new")
    assert code == 0
    assert "no stopped run to resume; starting one" in err
    finished = lesionkit(*arguments, stopped)
    assert_refused(finished, f"--out {stopped}", "has finished")


def test_a_damaged_checkpoint(stopped):
    last = stopped / "unfinished" / "last.safetensors"
    os.truncate(last, 1000)
    code, _, err = lesionkit("train", "--resume", "--out", stopped)
    assert code == 0
    line = err.splitlines()[0]
    assert line.startswith(f"{last}: damaged")
    assert line.endswith("; going on from the checkpoint before it")


def test_a_damaged_checkpoint_is_refused_before_samples_are_prepared(stopped, monkeypatch):
    (stopped / "unfinished" / "previous.safetensors").unlink()
    os.truncate(stopped / "unfinished" / "last.safetensors", 1000)
    monkeypatch.setattr("lesionkit.cli.train._samples", lambda **_: pytest.fail("prepared"))
    result = lesionkit("train", "--resume", "--out", stopped)
    assert_refused(result, "last.safetensors: damaged", "start another run")


def test_another_run_says_that_one_has_not_finished(data, stopped):
    before = tree(stopped)
    code, _, err = lesionkit("train", "--data", data, "--out", stopped, *OPTIONS)
    assert code == 0
    assert err.splitlines()[0] == (
        f"{stopped / 'unfinished'}: holds a run that has not finished (1 epochs done); --resume "
        "goes on with it, without it this is another run"
    )
    assert before.items() <= tree(stopped).items()


@pytest.mark.parametrize(
    "options,words",
    [
        (["--epochs", 4], ["training.epochs=4", "has training.epochs=3"]),
        (["--preset", "3dce"], ["preset=3dce", "has preset=tiny"]),
        (["detector.nms_iou=0.5"], ["detector.nms_iou=0.5"]),
        (["--scan", "elsewhere"], ["--scan elsewhere", "has None"]),
        (["--data", "elsewhere"], ["--data elsewhere"]),
        (["--overwrite"], ["--overwrite"]),
    ],
)
def test_another_run_is_refused(stopped, options, words):
    before = tree(stopped)
    assert_refused(lesionkit("train", "--resume", "--out", stopped, *options), *words)
    assert tree(stopped) == before


def test_other_names_of_the_same_place(data, stopped, monkeypatch):
    monkeypatch.chdir(data.parent)
    code, _, err = lesionkit("train", "--resume", "--out", stopped, "--data", data.name)
    assert code == 0, err


def test_own_splits(data, stopped, tmp_path):
    """They are the run's own, and a run that is resumed does not go on with others."""
    lesions = read_dl_info(data / "DL_info.csv")
    patients = dict(zip(lesions.column("patient"), lesions.column("split"), strict=True))
    swapped = {1: "val", 2: "train", 3: "test"}
    path, out = tmp_path / "splits.csv", tmp_path / "own"
    rows = [f"{patient},{swapped[split]}\n" for patient, split in patients.items()]
    path.write_text("patient,split\n" + "".join(rows))
    arguments = ("train", "--out", out, "--data", data, "--split-file", path, *OPTIONS)
    code, _, err = lesionkit(*arguments, "--epochs", 1)
    assert code == 0, err
    assert json.loads((out / "config.json").read_text())["arguments"]["split_file"] == str(path)
    kept = load_checkpoint(out / "last.safetensors").run
    ours = {name: DeepLesion(data, split=name, split_file=path) for name in ("train", "val")}
    assert kept["samples"] == {"training": len(ours["train"]), "validation": len(ours["val"])}
    other = load_checkpoint(stopped / "unfinished" / "last.safetensors").run
    assert kept["annotations"]["training"] != other["annotations"]["training"]
    again = ("train", "--resume", "--out", stopped)
    assert_refused(lesionkit(*again, "--split-file", path), f"--split-file {path}", "has None")


def test_edited_boxes(data, tmp_path, stopped, monkeypatch):
    monkeypatch.setattr(
        "lesionkit.training.Samples.preload", lambda *_: pytest.fail("samples were prepared")
    )
    info = data / "DL_info.csv"
    before = info.read_text()
    with open(info, newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["Bounding_boxes"] = "1, " + row["Bounding_boxes"].partition(", ")[2]
    try:
        with open(info, "w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        result = lesionkit("train", "--resume", "--out", stopped)
    finally:
        info.write_text(before)
    assert_refused(result, "last.safetensors", "annotations of the training samples")


def test_several_stopped_runs(stopped):
    (stopped / "unfinished-2").mkdir()
    for name in ("config.json", "last.safetensors"):
        os.link(stopped / "unfinished" / name, stopped / "unfinished-2" / name)
    result = lesionkit("train", "--resume", "--out", stopped)
    assert_refused(result, "unfinished, unfinished-2", "move all but one away")


def test_a_run_at_work_is_left_alone(stopped):
    import fcntl

    handle = os.open(stopped / "unfinished", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        result = lesionkit("train", "--resume", "--out", stopped)
        assert result[0] == 2
        assert "another process is at work" in result[2]
    finally:
        os.close(handle)
    load_detector(stopped / "unfinished" / "last.safetensors")


def test_a_run_killed_while_its_results_moved(trained, tmp_path):
    out = tmp_path / "out"
    expected = tree(trained)
    for name, content in expected.items():
        place = out if name in ("config.json", "metrics.jsonl") else out / "unfinished"
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    assert_refused(lesionkit("train", "--resume", "--out", out), "has finished")
    assert tree(out) == expected


def test_config_file(data, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("preset: tiny\ntraining:\n  epochs: 4\n  tensorboard: false\n")
    out = tmp_path / "out"
    code, _, err = lesionkit(
        *("train", "--config", path, "--data", data, "--out", out, "--slices", 3),
        *("--epochs", 3, "training.epochs=1", "detector.preprocessing.interpolation=legacy"),
    )
    assert code == 0, err
    config = json.loads((out / "config.json").read_text())
    assert config["training"]["epochs"] == 1
    assert config["detector"]["preprocessing"]["interpolation"] == "legacy"
    assert config["detector"]["preprocessing"]["num_images"] == 1
    assert not (out / "tensorboard").exists()


def test_only_the_first_rank_writes(data, tmp_path, monkeypatch):
    seen = []

    def train(detector, training, out, *arguments, **options):
        seen.append(out)

    monkeypatch.setattr("lesionkit.training.train", train)
    monkeypatch.setattr("lesionkit.training.distributed.rank", lambda: 1)
    code, stdout, err = lesionkit("train", "--data", data, "--out", tmp_path / "out", *OPTIONS)
    assert (code, stdout, err) == (0, "", "")
    assert seen == [tmp_path / "out"]
    assert not any(tmp_path.iterdir())
