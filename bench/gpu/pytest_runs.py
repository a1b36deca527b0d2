"""The tests marked `gpu`: pytest's commands, and what came out of them."""

import os
import re
import sys
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from bench.gpu.checks import run
from bench.gpu.machine import ROOT
from bench.gpu.results import TIMED_OUT

# Folders of tests that import nothing but what a host for GPUs has.
TEST_FOLDERS = ("gpu", "ops", "kernels", "csrc")
# What a first run has time for: a small case of each op, direction, type and rule on each backend.
CORE_TESTS = {
    "tests/gpu/test_attention.py": "test_sizes_of or test_one_bad_feature or test_empty",
    "tests/gpu/test_psroi.py": "test_matches_reference or test_unusable_roi",
}
# Lines of `pytest -v`, in one process and in several.
LINE = re.compile(
    r"^(?:\[gw\d+\] \[ *\d+%\] (?P<word>PASSED|FAILED|ERROR) (?P<name>\S.*?)"
    r"|(?P<name_1>tests/\S.*?) (?P<word_1>PASSED|FAILED|ERROR)\b.*) *$",
    re.MULTILINE,
)


def test_checks() -> list[str]:
    """The test files with tests that are marked `gpu`, or the classes in them."""
    found = []
    for folder in TEST_FOLDERS:
        for path in sorted((ROOT / "tests" / folder).rglob("test_*.py")):
            text, name = path.read_text(), str(path.relative_to(ROOT))
            if re.search(r"mark\.gpu|from tests\.gpu import .*\bgpu\b", text):
                classes = re.findall(r"^class (Test\w+)", text, re.M)
                outside = re.search(r"^def test_", text, re.M)
                found += [f"{name}::{each}" for each in classes if not outside] or [name]
    return found


def tests(check: str, seconds: float, done: Iterable[str]) -> dict:
    """The outcome of a file's tests marked `gpu`, or of a class's, with pytest's counts.

    Those of `done` passed before: they are left out, and counted. A check that ends with "core" is
    a part of its file.
    """
    passed = [*done]
    command = test_command(check)
    environment = {"OMP_NUM_THREADS": "2"} if "-n" in command else {}
    with tempfile.TemporaryDirectory() as folder:
        if passed:
            arguments = Path(folder, "passed")
            arguments.write_text("".join(f"--deselect={name}\n" for name in passed))
            command.append(f"@{arguments}")
        row = outcome_of_tests(*run(check, command, seconds, environment))
    if passed:
        row["passed"] = row.get("passed", 0) + len(passed)
        if row["outcome"] == "skipped":
            row["outcome"] = "passed"
        if "passed_tests" in row:
            row["passed_tests"] = [*passed, *row["passed_tests"]]
    return {"check": check} | row


def core_tests() -> list[str]:
    return [f"{name} core" for name in CORE_TESTS]


def test_command(check: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-v", "-m", "gpu", "-p", "no:cacheprovider"]
    check, _, core = check.partition(" ")
    if core:
        command += ["-k", CORE_TESTS[check]]
    # Most of the time goes into compiling for the host. Large tensors need the device alone.
    if find_spec("xdist") and "test_large" not in check:
        command += ["-n", str(max(1, min(8, os.cpu_count() // 2)))]
    return [*command, check]


def outcome_of_tests(code: int | None, text: str) -> dict:
    if code is None:
        # What was printed before the end counts: the tests that passed are not run again.
        lines = [
            (line["word"] or line["word_1"], line["name"] or line["name_1"])
            for line in LINE.finditer(text)
        ]
        passed = [name for word, name in lines if word == "PASSED"]
        bad = len(lines) - len(passed)
        found = {"failed": bad} if bad else {}
        found |= {"passed": len(passed), "passed_tests": passed} if passed else {}
        return {"outcome": "failed" if bad else TIMED_OUT} | found
    last = next((line for line in reversed(text.splitlines()) if re.search(r" in \d", line)), "")
    counts = {name: int(n) for n, name in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    if code != 0:
        return {"outcome": "failed", "exit_code": code} | counts
    return {"outcome": "passed" if counts.get("passed") else "skipped"} | counts
