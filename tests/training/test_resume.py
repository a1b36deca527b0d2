"""Runs that stop and go on."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lesionkit.errors import InputError
from lesionkit.models import PRESETS, load_detector
from lesionkit.training import TRAINING_PRESETS, loop, scan_samples, train
from lesionkit.training.checkpoint import last_checkpoint, load_checkpoint
from lesionkit.training.run_config import different_key

from .scans import BALL_BOX, ball_scan

CONFIG = replace(
    TRAINING_PRESETS["tiny"], epochs=2, batch_size=2, validate_every=1, shift=4, tensorboard=False
)


@pytest.fixture(scope="module")
def samples():
    marked = dict.fromkeys((2, 3, 4, 5), BALL_BOX)
    samples = scan_samples(ball_scan(), marked, PRESETS["tiny"].preprocessing)
    samples.preload(1e9)
    return samples


def test_runs_killed_at_any_moment_end_as_if_they_had_not_been(tmp_path):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.training.crash_runs", tmp_path]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["kills"] >= 20
    assert len({*result["steps"]}) > 4  # not all at the same place


class Stop(Exception):
    pass


def stop_at(monkeypatch, step):
    """Have the training raise at a step, counted from 1."""
    calls = []
    original = loop.training_step

    def stopping(*arguments):
        calls.append(arguments)
        if len(calls) == step:
            raise Stop
        return original(*arguments)

    monkeypatch.setattr(loop, "training_step", stopping)


@pytest.mark.parametrize(
    "optimizer,precision", [("adamw", "32-true"), ("sgd", "bf16-mixed"), ("sgd", "16-mixed")]
)
def test_goes_on_from_the_last_checkpoint(tmp_path, samples, monkeypatch, optimizer, precision):
    config = replace(CONFIG, optimizer=optimizer, precision=precision, checkpoint_every=0)

    def draw(*_):  # as a user's own code may
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002

    whole = train("tiny", samples, tmp_path / "whole", config, None, "cpu", draw)
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        with pytest.raises(Stop):
            train("tiny", samples, tmp_path / "out", config, None, "cpu", draw)
    torch.manual_seed(99)  # whatever happened in between
    steps = []
    original = loop.training_step
    monkeypatch.setattr(loop, "training_step", lambda *a: steps.append(a) or original(*a))
    again = train("tiny", samples, tmp_path / "out", config, None, "cpu", draw, resume=True)
    assert len(steps) == 1
    mine, other = load_file(again.weights), load_file(whole.weights)
    assert all(torch.equal(mine[name], other[name]) for name in other)
    a, b = (load_checkpoint(tmp_path / n / "last.safetensors") for n in ("out", "whole"))
    assert a.scaler == b.scaler
    assert a.random == b.random
    assert torch.equal(a.tensors["random.torch"], b.tensors["random.torch"])
    assert bool(a.scaler) == (precision == "16-mixed")


def test_a_checkpoint_is_weights_too(tmp_path, samples):
    result = train("tiny", samples, tmp_path, CONFIG, None, "cpu")
    last = load_detector(tmp_path / "last.safetensors").state_dict()
    kept = load_file(result.weights)
    assert all(torch.equal(last[name], kept[name]) for name in kept)


def test_within_an_epoch_a_checkpoint_comes_when_it_is_due(tmp_path, samples, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    written = []
    original = loop.save_checkpoint

    def spy(*arguments):
        written.append(arguments[5].step)
        original(*arguments)

    monkeypatch.setattr(loop, "save_checkpoint", spy)

    def progress(*_):
        now[0] += 50.0

    config = replace(CONFIG, batch_size=1, epochs=1, checkpoint_every=1.5)
    train("tiny", samples, tmp_path, config, None, "cpu", progress)
    assert written == [0, 2, 4]


@pytest.mark.parametrize(
    "change,key",
    [({"epochs": 3}, "training.epochs"), ({"precision": "bf16-mixed"}, "training.precision")],
)
def test_another_config_is_refused(tmp_path, samples, change, key):
    train("tiny", samples, tmp_path, replace(CONFIG, epochs=1), None, "cpu")
    config = replace(CONFIG, **{"epochs": 1, **change})
    with pytest.raises(InputError, match=rf"last\.safetensors: its run has {key}=.*, not"):
        train("tiny", samples, tmp_path, config, None, "cpu", resume=True)


def test_other_samples_are_refused(tmp_path, samples):
    train("tiny", samples, tmp_path, replace(CONFIG, epochs=1), None, "cpu")
    with pytest.raises(InputError, match=r"samples\.validation=0, not 4"):
        train("tiny", samples, tmp_path, replace(CONFIG, epochs=1), samples, "cpu", resume=True)


def test_edited_annotations_are_refused(tmp_path, samples):
    config = replace(CONFIG, epochs=1)
    train("tiny", samples, tmp_path, config, None, "cpu")
    marked = dict.fromkeys((2, 3, 4, 5), BALL_BOX + 1)
    edited = scan_samples(ball_scan(), marked, PRESETS["tiny"].preprocessing)
    with pytest.raises(InputError, match="the annotations of the training samples"):
        train("tiny", edited, tmp_path, config, None, "cpu", resume=True)


def test_costs_may_change():
    old = {"training": {"epochs": 1, "workers": 0, "cache_gib": 2}, "milestones": (4, 5)}
    new = {"training": {"epochs": 1, "workers": 4, "cache_gib": 9}, "milestones": [4, 5]}
    assert different_key(old, new) is None
    new["training"]["seed"] = 4
    assert different_key(old, new) == ("training.seed", None, 4)


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "state", "weights only", "pickle"])
def test_damaged_checkpoints(tmp_path, samples, damage):
    result = train("tiny", samples, tmp_path, replace(CONFIG, epochs=1), None, "cpu")
    last = tmp_path / "last.safetensors"
    data = bytearray(last.read_bytes())
    if damage == "cut":
        last.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        last.write_bytes(b"")
    elif damage == "flipped":
        data[-5000] ^= 1
        last.write_bytes(data)
    elif damage == "state":
        last.write_bytes(data.replace(b'best\\": -1.0', b'best\\": -2.0'))
        assert last.read_bytes() != data
    elif damage == "weights only":
        last.write_bytes(result.weights.read_bytes())
    else:
        torch.save({}, last)
    with pytest.raises(InputError, match=r"last\.safetensors: .*; start another run$"):
        train("tiny", samples, tmp_path, CONFIG, None, "cpu", resume=True)


def test_goes_on_from_the_one_before_a_damaged_checkpoint(tmp_path, samples, monkeypatch):
    config = replace(CONFIG, checkpoint_every=0)
    whole = train("tiny", samples, tmp_path / "whole", config, None, "cpu")
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        with pytest.raises(Stop):
            train("tiny", samples, out, config, None, "cpu")
    last, previous = out / "last.safetensors", out / "previous.safetensors"
    # The end of the first epoch was one more checkpoint after the second step.
    assert [load_checkpoint(path).position.step for path in (previous, last)] == [2, 3]
    os.truncate(last, 100_000)
    found = last_checkpoint(out)
    assert found.position.step == 2
    assert str(last) in found.damage
    with monkeypatch.context() as patch:
        stop_at(patch, 1)
        with pytest.raises(Stop):
            train("tiny", samples, out, config, None, "cpu", resume=True)
    assert load_checkpoint(last).position.step == 2  # the whole one stays
    again = train("tiny", samples, out, config, None, "cpu", resume=True)
    assert again.weights.read_bytes() == whole.weights.read_bytes()
    assert last.read_bytes() == (tmp_path / "whole" / last.name).read_bytes()
    assert not previous.exists()
    last.write_bytes(b"")
    previous.write_bytes(b"")
    with pytest.raises(InputError, match=r"last\.safetensors.*start another run"):
        last_checkpoint(out)
