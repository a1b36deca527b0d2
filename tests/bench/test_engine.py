"""The benchmark of engines, without a GPU: what it measures, with fakes for engines."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import engine
from bench.gpu import checks
from lesionkit.deploy.graph import DetectorGraph
from lesionkit.errors import InputError

ROOT = Path(__file__).parents[2]
NAMES = ("native", "plugin", "compiled", "eager", "detector")


@pytest.fixture
def small(monkeypatch):
    """A short measurement: a smaller detector on smaller images, compiled by nothing."""
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    monkeypatch.setattr(engine, "load_runtime", lambda needs: json)  # any module with a version

    def make(model, folder, form, precision, size, batch):
        return DetectorGraph(model, size)

    monkeypatch.setattr(engine, "engine", make)
    return monkeypatch


def test_a_row(small):
    row = engine.measured("tiny", "float32", 1)
    assert row["outcome"] == "passed"
    assert row["runtime"].startswith("json ")
    for name in NAMES:
        assert row[f"{name} microseconds"] > 0
        assert row[f"{name} matched"] > 0.95


def test_what_fails_is_told_and_the_rest_is_measured(small):
    def make(model, folder, form, *_):
        if form == "native":
            raise InputError("it was not built for this GPU")
        raise RuntimeError("no memory")

    small.setattr(engine, "engine", make)
    row = engine.measured("tiny", "float32", 1)
    assert row["outcome"] == "failed"
    assert row["reason"] == "native: it was not built for this GPU"
    assert row["plugin error"] == "RuntimeError: no memory"
    assert row["eager matched"] > 0.95


def test_matched():
    right = {"boxes": torch.tensor([[0.0, 0, 9, 9], [20, 20, 29, 29]]), "scores": torch.ones(2)}
    near = {"boxes": right["boxes"] + 0.5, "scores": torch.tensor([0.99, 0.9])}
    none = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0)}
    assert engine.matched([right, none], [right, none]) == 1
    assert engine.matched([near], [right]) == 0.5
    assert engine.matched([none], [right]) == 0
    assert engine.matched([right], [none]) == 1
    assert engine.matched(engine.detections(engine.padded([right, none])), [right, none]) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_skips_with_a_reason():
    finished = subprocess.run(
        [sys.executable, "-m", "bench.engine", "tiny", "float16", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    row = checks.outcome_of_engine(0, finished.stdout)
    assert row == {"outcome": "skipped", "reason": "PyTorch finds no CUDA device"}


def test_outcomes():
    assert checks.outcome_of_engine(None, "") == {"outcome": checks.TIMED_OUT}
    assert checks.outcome_of_engine(-11, '{"outcome": "passed"}')["outcome"] == "failed"
    assert checks.outcome_of_engine(0, "no row")["outcome"] == "failed"
    assert checks.outcome_of_engine(0, 'noise\n{"outcome": "passed"}\n')["outcome"] == "passed"
    for check in checks.engine_checks():
        preset, precision, batch = check.split()
        assert preset in engine.PRESETS
        assert precision in engine.PRECISIONS
        assert int(batch) >= 1
