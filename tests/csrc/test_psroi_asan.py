"""100,000 random and hostile rois through the CPU kernels, under sanitizers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
SANITIZERS = "-fsanitize=address,undefined,float-cast-overflow"


def compile_cpp(*arguments: object) -> subprocess.CompletedProcess:
    command = [COMPILER, "-std=c++20", SANITIZERS, "-fno-sanitize-recover=all", *arguments]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=ROOT, check=False
    )


@pytest.fixture(scope="module")
def compiler(tmp_path_factory):
    if COMPILER is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("sanitizers")
    probe = folder / "probe.cpp"
    probe.write_text("int main() { return 0; }\n")
    if compile_cpp(probe, "-o", folder / "probe").returncode:
        pytest.skip(f"{COMPILER} has no address and undefined sanitizers")


# The instruction sets differ in how rows and 16-bit floats are loaded and stored.
@pytest.mark.parametrize("flags", [(), ("-march=native",)], ids=["baseline", "native"])
def test_no_report_on_any_roi(compiler, flags, tmp_path):
    program = tmp_path / "psroi_fuzz"
    built = compile_cpp(
        *("-O1", "-g", "-w", "-ffp-contract=off", "-DLESIONKIT_ISA=baseline", *flags),
        *("-Ikernels", "-Icsrc", "csrc/cpu/psroi.cpp", "tests/csrc/psroi_fuzz.cpp", "-o", program),
    )
    assert built.returncode == 0, built.stderr
    run = subprocess.run([program, "100000"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr, run.stdout) == (0, "", "100000 rois\n")
