"""The plugin library as a file, and when it is built."""

import re
import subprocess

import pytest

from tests.csrc.cuda_tools import ARCHITECTURES, find_cuobjdump, run
from tests.csrc.emulated import COMPILER, ROOT
from tests.csrc.tensorrt_tools import LIBRARY, needs_library
from tests.csrc.test_cuda_build import choice, fake_nvcc, no_nvcc  # noqa: F401


@needs_library
def test_exports_two_functions_alone():
    exported = run("nm", "-D", "--defined-only", LIBRARY).split()[2::3]
    assert sorted(exported) == ["getCreators", "setLoggerFinder"]


@needs_library
def test_needs_the_c_and_cpp_libraries_alone():
    needed = re.findall(r"NEEDED.*\[(.+)\]", run("readelf", "-d", LIBRARY))
    allowed = ("libstdc++.so", "libgcc_s.so", "libc.so", "libm.so", "ld-linux")
    allowed += ("libpthread.so", "libdl.so", "librt.so")
    assert [name for name in needed if not name.startswith(allowed)] == []


@needs_library
def test_leaves_no_symbol_to_tensorrt_or_the_cuda_library():
    undefined = run("nm", "-DC", "--undefined-only", LIBRARY)
    foreign = "nvinfer1|getPluginRegistry|getLogger|lesionkit|cuda|at::|c10::|torch"
    assert re.findall(foreign, undefined) == []


@needs_library
@pytest.mark.skipif(find_cuobjdump() is None, reason="no cuobjdump")
def test_holds_machine_code_for_every_architecture():
    listed = run(find_cuobjdump(), "-lelf", LIBRARY)
    assert sorted(set(map(int, re.findall(r"sm_(\d+)", listed)))) == list(ARCHITECTURES)
    assert "sm_120" in run(find_cuobjdump(), "-lptx", LIBRARY)


@pytest.fixture
def root(tmp_path):
    """A TensorRT that has nothing but a header."""
    (tmp_path / "tensorrt/include").mkdir(parents=True)
    (tmp_path / "tensorrt/include/NvInferRuntime.h").write_text("#define NV_TENSORRT_MAJOR 8\n")
    return tmp_path / "tensorrt"


def test_built_where_nvcc_and_headers_are(fake_nvcc, no_nvcc, root):  # noqa: F811
    toolkit = no_nvcc | {"CUDA_HOME": str(fake_nvcc)}
    everything = "['cpu', 'cuda', 'tensorrt', 'register']\n"
    for variable in (
        {"TENSORRT_ROOT": str(root)},
        {"TENSORRT_INCLUDE_DIR": str(root / "include")},
        {"TENSORRT_INCLUDE_DIR": str(root / "include"), "TENSORRT_ROOT": "/nowhere"},
    ):
        assert choice(**toolkit | variable).stdout == everything
    without = choice(**no_nvcc | {"TENSORRT_ROOT": str(root)})
    assert without.stdout == (
        "TENSORRT_ROOT is set, but the TensorRT plugins need nvcc: left out\n['cpu']\n"
    )


@pytest.mark.parametrize("name", ["TENSORRT_ROOT", "TENSORRT_INCLUDE_DIR"])
def test_a_wrong_folder_is_an_error(fake_nvcc, no_nvcc, tmp_path, name):  # noqa: F811
    wrong = choice(**no_nvcc | {"CUDA_HOME": str(fake_nvcc), name: str(tmp_path)})
    assert wrong.returncode == 1
    assert f"{name}={tmp_path}: there is no NvInferRuntime.h in {tmp_path}" in wrong.stderr
    assert f"or unset {name} to install without the TensorRT plugins" in wrong.stderr


@pytest.mark.skipif(COMPILER is None, reason="no g++")
def test_headers_that_are_too_old_are_an_error(root):
    command = [COMPILER, "-std=c++20", "-fsyntax-only", "-Icsrc", f"-I{root / 'include'}"]
    done = subprocess.run(
        [*command, "csrc/tensorrt/log.h"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "are built with the headers of TensorRT 10.0 or later" in done.stderr
