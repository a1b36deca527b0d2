"""The GPU suite without a GPU: what it plans, when it stops, and what its command line takes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import lesionkit
from bench import gpu_suite
from bench.gpu import attention, checks, machine, points, pytest_runs, results
from bench.gpu.verdicts import STEPS
from tests.bench.fake_cuda import fake_cuda  # noqa: F401

ROOT = Path(__file__).parents[2]
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def suite(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "bench.gpu_suite", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@no_gpu
def test_says_that_there_is_no_gpu():
    finished = suite()
    assert finished.returncode == 3
    assert "needs a CUDA device" in finished.stderr


@no_gpu
def test_dry_run():
    finished = suite("--dry-run", "--parts", "spatial", "tests", "--dtype", "float32")
    assert finished.returncode == 0, finished.stderr
    assert "Dry run on the CPU" in finished.stdout
    assert finished.stdout.count("\n| [1, 3, 2, 8, 8] | float32 |") == 3
    assert not (ROOT / "bench" / "results" / "cpu_(dry_run).json").exists()


def test_a_shape_that_is_not_measured():
    finished = suite("--parts", "dual", "--shape", "1x5x512x64x65")
    assert finished.returncode == 2
    assert "--shape must be one of 1x3x512x32x32, " in finished.stderr


def test_the_listed_sizes():
    listed = points.in_turn(points.OPS)
    assert len(listed) == len(set(listed)) == 120
    for op in points.ATTENTION:
        shapes = {point.shape for point in listed if point.op == op}
        assert shapes == {
            (b, m, 512, side, side)
            for side in (32, 64)
            for b, m in ((1, 3), (1, 5), (1, 7), (1, 9), (2, 9))
        }
    pooled = {(p.shape, p.rois) for p in listed if p.op == "psroi"}
    assert {((1, 490 * m, s, s), 300) for s in (32, 64) for m in (3, 5, 7, 9)} <= pooled


def test_what_matters_most_comes_first():
    listed = points.in_turn(points.OPS)
    assert [point.op for point in listed[:4]] == list(points.OPS)
    assert {point.dtype for point in listed[:8]} == {"float32", "bfloat16"}
    first = [p for p in listed[:32] if p.op != "psroi"]
    assert all(p.numel >= 10_000_000 for p in first)
    assert {point.dtype for point in listed[-40:]} == {"float16"}


def test_filters():
    listed = points.in_turn(["contextual", "psroi"])
    assert points.select(listed, [], []) == listed
    chosen = points.select(listed, ["1x5x512x64x64", "1x2450x64x64"], ["float32"])
    assert [(point.op, point.rois) for point in chosen] == [
        ("psroi", 300),
        ("contextual", None),
        ("psroi", 32),
    ]
    with pytest.raises(ValueError, match=r"--dtype must be one of bfloat16, .*got float64"):
        points.select(listed, [], ["float64"])


def small_run(monkeypatch, tmp_path, *arguments, expected=None):
    """The whole program on fakes, with points as tiny as a dry run's; its exit code."""
    monkeypatch.setattr(sys, "argv", ["gpu_suite", "--results", str(tmp_path), *arguments])
    monkeypatch.setattr(points, "in_turn", lambda ops, small: SMALL(ops, small=True))
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    facts = {"device": "Fake", "date": f"run {time.perf_counter()}", "torch": "2"}
    monkeypatch.setattr("bench.gpu.machine.describe", lambda: facts)
    monkeypatch.setattr(checks, "build", lambda deadline: None)
    there = [name for name in lesionkit.available_backends("cpu") if name != "reference"]
    monkeypatch.setattr(lesionkit, "available_backends", lambda device: there)
    monkeypatch.setattr(machine, "expected_backends", lambda: expected or there)
    monkeypatch.delenv(checks.DEADLINE, raising=False)
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "")  # put back afterwards
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS")
    return gpu_suite.main()


SMALL = points.in_turn


def test_the_whole_program(fake_cuda, monkeypatch, tmp_path, capsys):  # noqa: F811
    seconds = {}

    def passes(name, limit, done=()):
        seconds[name] = limit
        return {"check": name, "outcome": "passed", "passed": 1}

    monkeypatch.setattr(pytest_runs, "tests", passes)
    monkeypatch.setattr(checks, "sanitizer", passes)
    monkeypatch.setattr(checks, "engine", passes)
    names = {True: ["memcheck cpu core"], False: ["memcheck cpu"]}
    monkeypatch.setattr(checks, "sanitizer_checks", lambda _, core: names[core])
    assert small_run(monkeypatch, tmp_path, "--minutes", "8") == 0
    saved = results.load("Fake", tmp_path)
    for op in points.OPS:
        assert saved[op]["finished"] == sorted(p.label for p in points.planned(op, small=True))
    assert set(seconds) == {row["check"] for part in points.CHECKS
                            for row in saved[part]["rows"]}  # fmt: skip
    early = [seconds[row["check"]] for part in points.CHECKS[:2] for row in saved[part]["rows"]]
    assert all(0 < limit <= 8 * 60 * 7 / 10 for limit in early)
    assert len(saved["runs"]) == 1
    outcome = {row["target"]: row["outcome"] for row in saved["verdicts"]}
    assert outcome["correct on every backend"] == "met"
    assert outcome["sanitizer clean"] == "met"
    assert "met: sanitizer clean" in capsys.readouterr().out
    assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == "1"
    # Nothing is missing: another run of that has nothing to do, and changes nothing.
    seconds.clear()
    assert small_run(monkeypatch, tmp_path, "--missing") == 0
    again = results.load("Fake", tmp_path)
    assert seconds == {}
    assert again == saved


def test_failures_give_1_and_are_recorded(fake_cuda, monkeypatch, tmp_path, capsys):  # noqa: F811
    def fails(name, limit, done):
        if "test_large" in name:
            raise OSError("no memory for a process")
        return {"check": name, "outcome": "timed out"}

    def broken(point, compiled):
        yield point.facts | {"direction": "forward", "implementation": STEPS, "microseconds": 1.0}
        raise MemoryError("no room for the inputs")

    monkeypatch.setattr(pytest_runs, "tests", fails)
    monkeypatch.setattr(attention, "rows", broken)
    parts = ("--parts", "tests", "dual", "psroi")
    assert small_run(monkeypatch, tmp_path, *parts) == 1
    saved = results.load("Fake", tmp_path)
    assert {row["outcome"] for row in saved["tests"]["rows"]} == {"timed out", "failed"}
    assert saved["dual"]["finished"] == []
    errors = [row["error"] for row in saved["dual"]["rows"] if "error" in row]
    assert errors == ["MemoryError: no room for the inputs"] * 3
    assert len(saved["psroi"]["finished"]) == 3  # it went on
    said = capsys.readouterr().err
    assert "NOT MEASURED: 3 of 6 points" in said
    assert "FAILED: tests: tests/gpu/test_large.py: failed" in said


def test_a_missing_backend_stops_the_run(fake_cuda, monkeypatch, tmp_path, capsys):  # noqa: F811
    monkeypatch.setattr(pytest_runs, "tests", None)  # is not called
    arguments = ("--parts", "tests", "dual")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_suite, "measure", None)
        monkeypatch.setattr(lesionkit, "available_backends", lambda device: ["cuda"])
        assert small_run(monkeypatch, tmp_path, *arguments, expected=["cuda", "nvrtc"]) == 1
    assert "nvrtc: `lesionkit doctor`" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    small_run(monkeypatch, tmp_path, "--parts", "dual", "--allow-missing", expected=["nvrtc"])
    assert results.load("Fake", tmp_path)["dual"]["finished"] == []
    assert "NOT MEASURED: 3 of 3 points" in capsys.readouterr().err


def test_no_time_at_all(fake_cuda, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setattr(pytest_runs, "tests", None)  # is not called
    assert small_run(monkeypatch, tmp_path, "--minutes", "0", "--parts", "tests", "dual") == 1
    saved = results.load("Fake", tmp_path)
    assert {row["outcome"] for row in saved["tests"]["rows"]} == {"timed out"}
    assert "dual" not in saved


def test_time_that_is_up_within_a_point(fake_cuda, tmp_path):  # noqa: F811
    (point, *_), saves = points.planned("dual", small=True), []
    until = time.time() + 0.05

    def slow(point, compiled):
        for name in ("cuda", "triton", "nvrtc"):
            time.sleep(0.06)
            yield point.facts | {"direction": "forward", "implementation": name}

    result = {"device": "Fake", "runs": {}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "rows", slow)
        gpu_suite.measure(result, [point, point], until, "a", lambda: saves.append(1))
    assert [row["implementation"] for row in result["dual"]["rows"]] == ["cuda"]
    assert result["dual"]["finished"] == []
    assert saves == [1]


def test_a_device_that_died_ends_the_measurement(fake_cuda, capsys):  # noqa: F811
    listed, result = points.planned("dual", small=True), {"device": "Fake", "runs": {}}

    def dies(point, compiled):
        fake_cuda.broken = True
        yield point.facts | {"direction": "forward", "implementation": "cuda", "error": "E"}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "rows", dies)
        gpu_suite.measure(result, listed, time.time() + 60, "a", lambda: None)
    assert len(result["dual"]["rows"]) == 1
    assert "no longer answers" in capsys.readouterr().err


def test_the_time_counts_from_before_the_build(fake_cuda, monkeypatch, tmp_path):  # noqa: F811
    seen = []
    monkeypatch.setattr(gpu_suite, "measure", lambda *a, **_: seen.append(a[2] - time.time()))
    small_run(monkeypatch, tmp_path, "--parts", "dual")
    assert 500 < seen[1] <= 540  # after the core, which takes what it needs
    monkeypatch.setattr(checks, "built", lambda: True)
    monkeypatch.setattr(sys, "argv", ["gpu_suite", "--results", str(tmp_path), "--parts", "dual"])
    monkeypatch.setenv(checks.DEADLINE, str(time.time() + 50))
    gpu_suite.main()
    assert 40 < seen[3] <= 50
