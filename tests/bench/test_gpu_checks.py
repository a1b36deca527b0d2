"""The build, the tests and the sanitizer of the GPU suite: commands, time limits, outcomes."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench.gpu import checks, machine, pytest_runs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout whose libraries are newer than its sources."""
    for name in ("csrc/cuda/a.cu", "csrc/cpu/a.cpp", "kernels/x/k.cuh", "kernels/x/b.h"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1000, 1000))
    (tmp_path / "lesionkit").mkdir()
    for name in ("cpu", "cuda"):
        library = tmp_path / "lesionkit" / f"liblesionkit_{name}.so"
        library.touch()
        os.utime(library, (2000, 2000))
    monkeypatch.setattr(checks, "ROOT", tmp_path)
    return tmp_path


def test_no_build_when_nothing_changed(checkout, monkeypatch):
    assert checks.built()
    for name in ("kernels/x/triton.py", "kernels/x/triton.pyc", "csrc/note.txt"):
        (checkout / name).touch()  # now, and newer than the libraries
    assert checks.built()
    monkeypatch.setattr(checks, "run", None)
    checks.build(time.time() + 60)


@pytest.mark.parametrize("name", ["csrc/cuda/a.cu", "csrc/cpu/a.cpp", "kernels/x/k.cuh"])
def test_a_newer_source_is_built(name, checkout):
    os.utime(checkout / name, (3000, 3000))
    assert not checks.built()


def test_a_missing_library_is_built(checkout):
    (checkout / "lesionkit" / "liblesionkit_cuda.so").unlink()
    assert not checks.built()


def test_the_build_starts_this_program_anew_with_its_deadline(checkout, monkeypatch):
    started = []
    monkeypatch.setattr(checks, "built", lambda: False)
    monkeypatch.setattr(checks, "run", lambda *a: started.append(a) or (0, ""))
    monkeypatch.setattr(checks, "find_tool", {"nvcc": "/cuda/bin/nvcc"}.get)
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setattr(os, "execve", lambda *a: started.append(a))
    deadline = time.time() + 100
    checks.build(deadline)
    (_, command, seconds, environment), (program, arguments, kept) = started
    assert command[1:4] == ["-m", "pip", "install"]
    assert environment == {"LESIONKIT_CUDA": "1", "CUDA_HOME": "/cuda"}
    assert 90 < seconds <= 100
    assert (program, arguments) == (sys.executable, sys.orig_argv)
    assert float(kept[checks.DEADLINE]) == deadline
    monkeypatch.setenv(checks.DEADLINE, str(deadline))
    with pytest.raises(SystemExit, match="not from this checkout"):
        checks.build(deadline)


@pytest.mark.parametrize("code, message", [(1, "was not built$"), (None, "not built in time")])
def test_a_build_that_fails(code, message, monkeypatch):
    monkeypatch.setattr(checks, "built", lambda: False)
    monkeypatch.setattr(checks, "run", lambda *_: (code, ""))
    with pytest.raises(SystemExit, match=message):
        checks.build(time.time() + 1)


def test_every_file_with_tests_for_a_gpu_is_run():
    found = pytest_runs.test_checks()
    assert "tests/gpu/test_attention.py::TestSpatial" in found
    assert "tests/gpu/test_large.py" in found
    files = {check.partition("::")[0] for check in found}
    marked = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if re.search(r"^pytestmark = .*\bgpu\b|^@pytest\.mark\.gpu", path.read_text(), re.M)
    }
    assert marked <= files


def test_tests_for_a_gpu_import_what_its_host_has():
    """Collected with the modules blocked that the GPU host lacks."""
    absent = ("pydicom", "SimpleITK", "nibabel", "onnx", "onnxruntime", "typer", "matplotlib")
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({absent!r}))\n"
        "import pytest\n"
        "sys.exit(pytest.main(['-q', '-m', 'gpu', '--collect-only', '-p', 'no:cacheprovider',"
        f" *{pytest_runs.test_checks()!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_tests_spread_over_processes_where_they_can(monkeypatch):
    monkeypatch.setattr(pytest_runs, "find_spec", lambda name: name == "xdist")
    assert pytest_runs.test_command("tests/gpu/test_psroi.py")[-3] == "-n"
    assert "-n" not in pytest_runs.test_command("tests/gpu/test_large.py")
    monkeypatch.setattr(pytest_runs, "find_spec", lambda _: None)
    command = pytest_runs.test_command("tests/gpu/test_psroi.py")
    assert command[1:6] == ["-m", "pytest", "-v", "-m", "gpu"]
    assert command[-1] == "tests/gpu/test_psroi.py"


@pytest.mark.skipif(torch.cuda.is_available(), reason="takes long where they run")
def test_a_real_file_of_tests_is_run_and_counted():
    row = pytest_runs.tests("tests/gpu/test_large.py", 300, [])
    assert row["check"] == "tests/gpu/test_large.py"
    assert row["outcome"] == "skipped"
    assert row["skipped"] >= 1


@pytest.mark.parametrize(
    "code, last, outcome",
    [
        (0, "1400 passed, 20 skipped, 3 deselected in 12.50s",
         {"outcome": "passed", "passed": 1400, "skipped": 20}),
        (0, "7 skipped in 1.00s", {"outcome": "skipped", "skipped": 7}),
        (1, "2 failed, 5 passed, 1 error in 3.10s (0:00:03)",
         {"outcome": "failed", "exit_code": 1, "failed": 2, "passed": 5, "error": 1}),
        (-11, "Segmentation fault", {"outcome": "failed", "exit_code": -11}),
        (None, "....", {"outcome": "timed out"}),
        (None, "[gw0] [ 5%] PASSED tests/a.py::test_b[x y] \ntests/a.py::T::test_c[1] PASSED [6%]",
         {"outcome": "timed out", "passed": 2,
          "passed_tests": ["tests/a.py::test_b[x y]", "tests/a.py::T::test_c[1]"]}),
        (None, "tests/a.py::test_b FAILED   [ 60%]", {"outcome": "failed", "failed": 1}),
    ],
)  # fmt: skip
def test_outcome_of_tests(code, last, outcome):
    assert pytest_runs.outcome_of_tests(code, f".....\nnoise\n{last}\n") == outcome


CLEAN = "cuda: every kernel ran\n========= ERROR SUMMARY: 0 errors\n"
RACES = "========= RACECHECK SUMMARY: 3 hazards displayed (2 errors, 1 warning)\n"


@pytest.mark.parametrize(
    "code, text, outcome, errors",
    [
        (0, CLEAN, "passed", 0),
        (0, CLEAN.replace("ERROR SUMMARY: 0 errors",
                          "RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)"),
         "passed", 0),
        (9, CLEAN.replace("0 errors", "2 errors"), "failed", 2),
        (0, "cuda: every kernel ran\n" + RACES, "failed", 3),
        (1, "========= Error: Device not supported\n", "failed", None),
        (0, "========= ERROR SUMMARY: 0 errors\n", "failed", 0),  # the cases did not run
        (0, "cuda: every kernel ran\n", "failed", None),  # the tool did not
        (None, "", "timed out", None),
    ],
)  # fmt: skip
def test_outcome_of_the_sanitizer(code, text, outcome, errors):
    row = checks.outcome_of_sanitizer(code, text)
    assert (row["outcome"], row.get("errors")) == (outcome, errors)


def test_sanitizer_commands():
    names = checks.sanitizer_checks(("reference", "triton", "cuda"))
    assert names[:2] == ["memcheck cuda", "racecheck cuda"]
    assert len(names) == 8
    for name in names:
        tool, backend = name.split()
        command = checks.sanitizer_command("/bin/compute-sanitizer", tool, backend)
        assert command[:3] == ["/bin/compute-sanitizer", "--tool", tool]
        assert command[-4:] == [sys.executable, "-m", "bench.gpu.sanitize", backend]
        assert ("--report-api-errors" in command) == (tool == "memcheck")
        # Its own limit, 10 seconds, is less than torch may take to be imported.
        assert int(command[command.index("--launch-timeout") + 1]) >= 120


def test_the_sanitizer_is_run_and_read(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "compute-sanitizer"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@"\necho "$PYTORCH_NO_CUDA_MEMORY_CACHING"\n')
    program.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    assert machine.find_tool("compute-sanitizer") == str(program)
    ran = []
    monkeypatch.setattr(checks, "run", lambda *a: ran.append(a) or (0, CLEAN))
    row = checks.sanitizer("memcheck cuda", 5)
    assert row == {"check": "memcheck cuda", "outcome": "passed", "errors": 0}
    assert ran[0][0] == "memcheck cuda"
    assert ran[0][3] == {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    monkeypatch.setattr(checks, "find_tool", lambda _: None)
    assert checks.sanitizer("memcheck cuda", 5)["outcome"] == "failed"


def test_a_command_that_takes_too_long_ends_with_its_children(capfd):
    sleeper = "import subprocess, sys; print('begun', flush=True); subprocess.run(['sleep', '60'])"
    start = time.perf_counter()
    code, text = checks.run("slow", [sys.executable, "-c", sleeper], 2)
    assert code is None
    assert "begun" in text
    assert time.perf_counter() - start < 20
    assert "slow: out of time" in capfd.readouterr().out


def test_what_a_figure_must_name_without_any_tool(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(machine, "find_tool", lambda _: None)
    facts = machine.describe()
    assert facts["driver"] == "unknown"
    assert facts["commit"] == "unknown"
    assert facts["nvcc"] is None
    assert {"device", "python", "torch", "triton", "torchvision", "cupy", "date"} <= set(facts)
