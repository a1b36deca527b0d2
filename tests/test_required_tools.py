"""Skips that LESIONKIT_REQUIRE turns into failures."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import pytest

@pytest.mark.skipif(True, reason="no NVCC here")
def test_marked(): pass

def test_inside():
    pytest.skip("no nvcc here either")

@pytest.mark.skip(reason="no cuobjdump")
def test_other(): pass
"""
WHOLE_MODULE = 'import pytest\npytest.importorskip("no_such_triton")\n'


@pytest.mark.parametrize(
    "required, failures",
    [(None, 0), ("", 0), (" , ", 0), ("nvcc", 2), ("nvcc, cuobjdump", 3), ("triton", 1)],
)
def test_skips_for_want_of_a_required_tool_fail(tmp_path, required, failures):
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_some.py").write_text(MODULE)
    (tmp_path / "test_whole.py").write_text(WHOLE_MODULE)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "LESION"))}
    if required is not None:
        environment["LESIONKIT_REQUIRE"] = required
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path]
    options = ["--continue-on-collection-errors", "--rootdir", tmp_path]
    result = subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, check=False
    )
    last = result.stdout.splitlines()[-1]
    counts = {
        word: int(number) for number, word in re.findall(r"(\d+) (failed|skipped|error)", last)
    }
    assert counts.get("failed", 0) + counts.get("error", 0) == failures, result.stdout
    assert counts.get("skipped", 0) == 4 - failures
    assert (result.returncode != 0) == (failures > 0)
    for word in filter(None, (required or "").replace(" ", "").strip(",").split(",")):
        assert f"LESIONKIT_REQUIRE asks for {word}" in result.stdout


def test_ci_requires_what_the_tests_name():
    """A word that is in no test would require nothing."""
    tests = Path(__file__).parent
    run = (tests.parent / ".ci" / "run").read_text()
    words = re.findall(r"[\w+]+", " ".join(re.findall(r"LESIONKIT_REQUIRE=(\S+)", run)))
    words = {word for word in words if word.lower() == word}
    assert {"g++", "nvcc", "tensorrt_lean", "onnxruntime", "tensorrt_include_dir"} <= words
    texts = [path.read_text().lower() for path in tests.rglob("*.py") if path != Path(__file__)]
    assert [word for word in words if not any(word in text for text in texts)] == []
