"""Launch geometry and index arithmetic of the CUDA kernels up to and beyond 2^31 elements."""

import subprocess

import pytest

from tests.csrc.emulated import COMPILER, FLAGS, ROOT


@pytest.mark.skipif(COMPILER is None, reason="no g++")
def test_every_size_is_covered_by_a_legal_grid(tmp_path):
    program = tmp_path / "geometry"
    command = [COMPILER, *FLAGS, "-O1", "tests/csrc/geometry.cpp", "-ldl", "-o", program]
    built = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    result = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "0 failures\n")
