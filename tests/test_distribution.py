"""The source distribution: a wheel built from it equals one built from the checkout.

Only file lists are compared. A stand-in for the compiler preprocesses what it is given, so that a
missing header is found, and writes empty objects: the whole test takes seconds instead of minutes.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {".py", ".h", ".cuh", ".cpp", ".cu", ".map"}
COMPILER = f"""#!{sys.executable}
import pathlib, subprocess, sys
arguments = sys.argv[1:]
target = arguments[arguments.index("-o") + 1] if "-o" in arguments else None
if "-c" in arguments and target:
    kept = [one for one in arguments if one not in ("-c", "-o", target)]
    done = subprocess.run(["c++", "-M", "-MF", "/dev/null", *kept])
    if done.returncode:
        raise SystemExit(done.returncode)
if target:
    pathlib.Path(target).write_bytes(b"")
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what git would hold, so that building leaves nothing in the real one."""
    if not (ROOT / "setup.py").exists():
        pytest.skip("runs in a checkout only")
    copy = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
    for name in ("csrc", "kernels", "lesionkit"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, copy)
    return copy


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """A function: the wheel or source distribution ("build_wheel", "build_sdist") of a folder."""
    compiler = tmp_path_factory.mktemp("bin") / "compiler"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    tools = dict.fromkeys(("CC", "CXX", "LDSHARED", "LDCXXSHARED"), str(compiler))
    # CUDA code needs nvcc, and TensorRT its headers; neither is what this is about.
    environment = {**os.environ, **tools, "LESIONKIT_CUDA": "0"}
    for name in ("TENSORRT_ROOT", "TENSORRT_INCLUDE_DIR"):
        environment.pop(name, None)

    def run(folder: Path, kind: str) -> Path:
        out = tmp_path_factory.mktemp(kind)
        code = f"from setuptools import build_meta; build_meta.{kind}({str(out)!r})"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        (made,) = out.iterdir()
        return made

    return run


@pytest.fixture(scope="module")
def unpacked(checkout, build, tmp_path_factory):
    """The source distribution's only folder."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(build(checkout, "build_sdist")) as archive:
        archive.extractall(folder, filter="data")
    (inner,) = folder.iterdir()
    return inner


def test_wheels_hold_the_same_files(checkout, unpacked, build):
    listings = []
    for folder in (checkout, unpacked):
        with zipfile.ZipFile(build(folder, "build_wheel")) as wheel:
            listings.append(sorted(wheel.namelist()))
    assert listings[0] == listings[1]
    for name in ("lesionkit/liblesionkit_cpu.so", "lesionkit/kernels/psroi/bins.h"):
        assert name in listings[0]


def test_every_source_is_in_it(checkout, unpacked):
    for folder in ("csrc", "kernels", "lesionkit"):
        files = {path.relative_to(checkout) for path in (checkout / folder).rglob("*")}
        sources = {path for path in files if path.suffix in SOURCES and "build" not in path.parts}
        missing = sorted(str(path) for path in sources if not (unpacked / path).exists())
        assert not missing
