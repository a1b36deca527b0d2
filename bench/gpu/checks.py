"""The build, compute-sanitizer and the engines: commands, within the time, and outcomes."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from bench.gpu.machine import ROOT, find_tool
from bench.gpu.results import TIMED_OUT

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
SUMMARY = r"(?:ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard)"
# The time of the whole command goes along when the build starts it anew.
DEADLINE = "LESIONKIT_GPU_SUITE_DEADLINE"


def built() -> bool:
    """Whether lesionkit is installed from here and its libraries are newer than their sources."""
    kinds = {".h", ".cuh", ".cu", ".cpp"}
    sources = [
        path
        for folder in ("csrc", "kernels")
        for path in (ROOT / folder).rglob("*")
        # The TensorRT plugins are a library of their own, which nothing here needs.
        if path.suffix in kinds and "tensorrt" not in path.relative_to(ROOT).parts
    ]
    newest = max(path.stat().st_mtime for path in sources)
    libraries = [ROOT / "lesionkit" / f"liblesionkit_{name}.so" for name in ("cpu", "cuda")]
    new = all(path.exists() and path.stat().st_mtime >= newest for path in libraries)
    return new and find_spec("lesionkit.kernels") is not None


def build(deadline: float) -> None:
    """Install in place and start this program anew, unless that is done."""
    if built():
        return
    if os.environ.get(DEADLINE):
        raise SystemExit("lesionkit was installed, but not from this checkout")
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
    command = [*install, "-e", str(ROOT)]
    environment = {"LESIONKIT_CUDA": "1"}
    nvcc = find_tool("nvcc")
    if nvcc and "CUDA_HOME" not in os.environ:
        environment["CUDA_HOME"] = str(Path(nvcc).parents[1])
    code, _ = run("build", command, deadline - time.time(), environment)
    if code != 0:
        raise SystemExit("the CUDA library was not built" + (" in time" if code is None else ""))
    # Only a new process sees the package that was installed.
    os.execve(sys.executable, sys.orig_argv, os.environ | {DEADLINE: str(deadline)})


def sanitizer_checks(backends: Iterable[str], core: bool = False) -> list[str]:
    """Tool and backend of every run; the kernels of `nvrtc` are those of `cuda`, and come last.

    With `core` one small case of each op.
    """
    there = [name for name in ("cuda", "triton", "nvrtc") if name in backends]
    return [f"{tool} {name}" + (" core" if core else "") for name in there for tool in TOOLS]


def sanitizer(check: str, seconds: float) -> dict:
    """What a tool found in the small cases of a backend's kernels."""
    program = find_tool("compute-sanitizer")
    if program is None:
        return {"check": check, "outcome": "failed", "reason": "there is no compute-sanitizer"}
    # Every allocation is the device's own: the caching allocator's have slack around them.
    environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    code, text = run(check, sanitizer_command(program, *check.split()), seconds, environment)
    return {"check": check} | outcome_of_sanitizer(code, text)


def sanitizer_command(program: str, tool: str, backend: str, *core: str) -> list[str]:
    command = [program, "--tool", tool, "--error-exitcode", "9"]
    command += ["--target-processes", "application-only"]  # not the compilers that Triton starts
    # It gives up on a process that does not reach CUDA within 10 seconds: importing takes longer,
    # the first time and four at once.
    command += ["--launch-timeout", "300"]
    if tool == "memcheck":
        # PyTorch asks the driver for what may not be there, and handles the answer.
        command += ["--report-api-errors", "no"]
    return [*command, sys.executable, "-m", "bench.gpu.sanitize", backend, *core]


def outcome_of_sanitizer(code: int | None, text: str) -> dict:
    if code is None:
        return {"outcome": TIMED_OUT}
    found = [int(number) for pair in re.findall(SUMMARY, text) for number in pair if number]
    ran = "every kernel ran" in text
    if code == 0 and ran and found and not any(found):
        return {"outcome": "passed", "errors": 0}
    reason = f"{sum(found)} errors" if any(found) else f"exit code {code}, no summary of errors"
    outcome = {"outcome": "failed", "reason": reason, "every_kernel_ran": ran}
    return outcome | ({"errors": sum(found)} if found else {})


def engine_checks() -> list[str]:
    """Preset, precision and batch of bench/engine.py, what matters most first."""
    return [
        f"{preset} {precision} {batch}"
        for preset, batch in (("tiny", 1), ("3dce_cs_att", 1), ("3dce_cs_att", 4))
        for precision in ("float16", "float32")
    ]


def engine(check: str, seconds: float) -> dict:
    """What bench/engine.py measures, in a process that TensorRT may end."""
    command = [sys.executable, "-m", "bench.engine", *check.split()]
    return {"check": check} | outcome_of_engine(*run(f"engine {check}", command, seconds))


def outcome_of_engine(code: int | None, text: str) -> dict:
    if code is None:
        return {"outcome": TIMED_OUT}
    last = next((line for line in reversed(text.splitlines()) if line.startswith("{")), None)
    if code != 0 or last is None:
        return {"outcome": "failed", "exit_code": code}
    return json.loads(last)


def run(
    name: str, command: list[str], seconds: float, environment: dict[str, str] | None = None
) -> tuple[int | None, str]:
    """Exit code, None if the time was up, and all that was printed; prints the end of it."""
    print(f"== {name}: at most {seconds:.0f} s", flush=True)
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | (environment or {}),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that the end reaches what it started, too
        )
        try:
            code = process.wait(max(1.0, seconds))
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        text = output.read()
    print("\n".join(text.splitlines()[-(3 if code == 0 else 40) :]))
    done = "out of time" if code is None else f"exit {code}"
    print(f"== {name}: {done} after {time.perf_counter() - start:.0f} s", flush=True)
    return code, text
