"""The CUDA library as a file and in the process: everything that shows without a GPU."""

import os
import re
import subprocess
import sys

import pytest
import torch

import lesionkit
from tests.csrc.cuda_tools import ARCHITECTURES, LIBRARY, ROOT, run

OPS = ("contextual_attention", "spatial_attention", "dual_attention", "ps_roi_pool")

needs_library = pytest.mark.skipif(
    not LIBRARY.exists(), reason="liblesionkit_cuda.so is not built: no nvcc, or LESIONKIT_CUDA=0"
)
needs_cuda_torch = pytest.mark.skipif(not torch.version.cuda, reason="torch is built without CUDA")


@needs_library
def test_exports_the_launchers_alone():
    exported = run("nm", "-D", "--defined-only", LIBRARY).split()[2::3]
    header = (ROOT / "csrc/cuda/launch.h").read_text()
    declared = set(re.findall(r"\b(lesionkit_\w+)\(", header))
    assert "lesionkit_psroi_backward" in declared
    ours = {name for name in exported if "lesionkit" in name}
    assert ours == declared
    assert not [name for name in exported if name.startswith(("cuda", "__cuda"))]


@needs_library
def test_needs_nothing_but_torch_and_libc():
    needed = re.findall(r"NEEDED.*\[(.+)\]", run("readelf", "-d", LIBRARY))
    assert not [name for name in needed if "cudart" in name]
    allowed = ("libtorch.so", "libstdc++.so", "libgcc_s.so", "libc.so", "libm.so", "ld-linux")
    allowed += ("libpthread.so", "libdl.so", "librt.so")
    assert [name for name in needed if not name.startswith(allowed)] == []
    undefined = run("nm", "-D", "--undefined-only", LIBRARY).split()[1::2]
    assert [
        name for name in undefined if name.startswith(("cuda", "cu_", "_ZN2at", "_ZN3c10"))
    ] == []
    assert "aoti_torch_get_current_cuda_stream" in undefined


@needs_library
@needs_cuda_torch
def test_registers_every_op_for_cuda():
    assert "cuda" in lesionkit.available_backends("cuda")
    for op in OPS:
        for name in (op, f"{op}_backward"):
            assert torch._C._dispatch_has_kernel_for_dispatch_key(f"lesionkit::{name}", "CUDA")


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@needs_library
def test_torch_without_cuda_imports_beside_it():
    process = python(
        "import torch; torch.version.cuda = None\n"
        "import lesionkit\n"
        "from lesionkit.ops.backends import why_not\n"
        "assert 'lesionkit_cuda' not in open('/proc/self/maps').read()\n"
        "assert 'cuda' not in lesionkit.available_backends('cuda')\n"
        "x = torch.ones(1, 3, 2, 4, 4)\n"
        "assert torch.equal(lesionkit.contextual_attention(x, x), x)\n"
        "print(why_not('cuda', 'cuda'))"
    )
    assert (process.returncode, process.stdout) == (0, "this torch is built without CUDA\n")


@needs_library
@needs_cuda_torch
def test_import_initialises_no_cuda():
    process = python(
        "import torch, lesionkit; assert not torch.cuda.is_initialized()\n"
        "print('lesionkit_cuda' in open('/proc/self/maps').read())"
    )
    assert (process.returncode, process.stdout) == (0, "True\n"), process.stderr


# setup.py from a source tree, told which nvcc there is, up to the choice of libraries.
CHOICE = """
import os, runpy, setuptools
os.chdir({root!r})
chosen = []
setuptools.setup = lambda **given: chosen.extend(given["ext_modules"])
namespace = runpy.run_path("setup.py")
print([library.name.rpartition("_")[2] for library in chosen])
"""


@pytest.fixture
def fake_nvcc(tmp_path):
    """A toolkit that knows three architectures; a PATH without any other."""
    home = tmp_path / "toolkit"
    (home / "bin").mkdir(parents=True)
    nvcc = home / "bin/nvcc"
    nvcc.write_text("#!/bin/sh\nprintf 'compute_75\\ncompute_80\\ncompute_86\\ncompute_90\\n'\n")
    nvcc.chmod(0o755)
    return home


@pytest.fixture
def no_nvcc(tmp_path):
    names = ("CUDA_HOME", "CUDA_PATH", "LESIONKIT_CUDA", "TENSORRT_INCLUDE_DIR", "TENSORRT_ROOT")
    return {"PATH": str(tmp_path)} | dict.fromkeys(names, "")


def choice(**environment):
    return python(CHOICE.format(root=str(ROOT)), **environment)


def test_built_exactly_where_nvcc_is(fake_nvcc, no_nvcc):
    assert choice(**no_nvcc).stdout == "['cpu']\n"
    assert choice(**no_nvcc | {"CUDA_HOME": str(fake_nvcc)}).stdout == "['cpu', 'cuda']\n"
    assert choice(**no_nvcc | {"CUDA_PATH": str(fake_nvcc)}).stdout == "['cpu', 'cuda']\n"
    on_path = f"{no_nvcc['PATH']}:{fake_nvcc}/bin:/bin:/usr/bin"
    assert choice(**no_nvcc | {"PATH": on_path}).stdout == "['cpu', 'cuda']\n"


def test_lesionkit_cuda_forces(fake_nvcc, no_nvcc):
    home = {"CUDA_HOME": str(fake_nvcc)}
    assert choice(**no_nvcc | home | {"LESIONKIT_CUDA": "0"}).stdout == "['cpu']\n"
    assert choice(**no_nvcc | home | {"LESIONKIT_CUDA": "1"}).stdout == "['cpu', 'cuda']\n"
    refused = choice(**no_nvcc | {"LESIONKIT_CUDA": "1"})
    assert refused.returncode == 1
    assert "there is no nvcc: install the CUDA toolkit" in refused.stderr
    refused = choice(**no_nvcc | home | {"LESIONKIT_CUDA": "yes"})
    assert "LESIONKIT_CUDA must be 0, 1 or unset, got 'yes'" in refused.stderr


def test_architectures_unknown_to_nvcc_are_left_out(fake_nvcc, no_nvcc):
    code = CHOICE + "print(namespace['known_architectures']({nvcc!r}))"
    nvcc = str(fake_nvcc / "bin/nvcc")
    printed = python(code.format(root=str(ROOT), nvcc=nvcc), **no_nvcc).stdout
    assert "this nvcc does not know [89, 100, 120]: no machine code for them\n" in printed
    assert printed.endswith("[80, 86, 90]\n")


def test_a_failing_nvcc_says_how_to_go_on(fake_nvcc, no_nvcc):
    (fake_nvcc / "bin/nvcc").write_text("#!/bin/sh\necho unsupported GNU version >&2\nexit 1\n")
    code = CHOICE + "namespace['known_architectures']({nvcc!r})"
    nvcc = str(fake_nvcc / "bin/nvcc")
    process = python(code.format(root=str(ROOT), nvcc=nvcc), **no_nvcc)
    assert process.returncode == 1
    assert "unsupported GNU version" in process.stdout
    assert "LESIONKIT_CUDA=0 installs without it" in process.stderr


@needs_library
def test_holds_machine_code_for_every_architecture():
    from tests.csrc.cuda_tools import architectures, find_cuobjdump

    if find_cuobjdump() is None:
        pytest.skip("no cuobjdump: neither the CUDA toolkit's nor Triton's")
    assert architectures() == list(ARCHITECTURES)
    assert "sm_120" in run(find_cuobjdump(), "-lptx", LIBRARY)
