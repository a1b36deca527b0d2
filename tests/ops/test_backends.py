import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

import lesionkit
from lesionkit.ops import backends


@pytest.fixture(autouse=True)
def restore_backend():
    with lesionkit.use_backend("auto"):
        yield


def resolve(device_type="cpu", dtype=torch.float32):
    """The choice for a tensor of a device that need not be there."""
    return backends.resolve(SimpleNamespace(device=torch.device(device_type), dtype=dtype))


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def everything_installed(monkeypatch):
    monkeypatch.setattr(backends, "_PROBLEMS", dict.fromkeys(("cuda", "triton", "nvrtc")))
    monkeypatch.setattr(backends, "_cupy_problem", lambda: None)


def test_what_is_there_by_device(everything_installed):
    assert [name for name in lesionkit.available_backends() if name != "triton"] == [
        "reference",
        "cpu",
    ]
    assert lesionkit.available_backends("cuda") == ("reference", "triton", "cuda", "nvrtc")
    assert lesionkit.available_backends("xpu") == ("reference",)


def test_auto_takes_the_fastest_that_is_there(everything_installed, monkeypatch):
    assert resolve() == "cpu"
    assert resolve("xpu") == "reference"
    assert resolve("cuda") == "cuda"
    monkeypatch.setitem(backends._PROBLEMS, "cuda", "not built")
    assert resolve("cuda") == "triton"
    monkeypatch.setitem(backends._PROBLEMS, "triton", "not installed")
    assert resolve("cuda") == "nvrtc"
    monkeypatch.setitem(backends._PROBLEMS, "nvrtc", "not installed")
    assert resolve("cuda") == "reference"


def test_float64_runs_on_the_cpu_kernels_and_the_reference(everything_installed):
    assert resolve("cpu", torch.float64) == "cpu"
    assert resolve("cuda", torch.float64) == "reference"
    with (
        lesionkit.use_backend("triton"),
        pytest.raises(RuntimeError, match=r"'triton' cannot run.*takes no float64"),
    ):
        resolve("cuda", torch.float64)


@pytest.mark.parametrize("name", ["triton", "cuda", "nvrtc"])
def test_a_gpu_backend_says_why_it_cannot_run_here(name):
    reason = backends.why_not(name)
    if name == "triton" and reason is None:
        pytest.skip("Triton's interpreter is on")
    x = torch.zeros(1, 3, 2, 2, 2)
    with lesionkit.use_backend(name), pytest.raises(RuntimeError, match=f"backend '{name}' cannot"):
        lesionkit.contextual_attention(x, x)


@pytest.mark.parametrize("library", ["cpu", "cuda"])
def test_a_library_that_is_not_there_or_damaged(library, monkeypatch, tmp_path):
    monkeypatch.setattr(backends, "__file__", str(tmp_path / "ops" / "backends.py"))
    assert "is not built; install with `pip install .`" in backends._load_library(library)
    (tmp_path / f"liblesionkit_{library}.so").write_text("no library")
    assert "does not load into torch" in backends._load_library(library)


def test_a_package_that_is_not_there():
    assert backends._missing("nowhere", "some-nowhere") == (
        "nowhere is not installed; pip install some-nowhere"
    )


def test_nvrtc_needs_a_cupy_that_takes_streams(monkeypatch):
    monkeypatch.setitem(backends._PROBLEMS, "nvrtc", None)
    monkeypatch.setattr(backends, "_cupy_problem", backends._cupy_problem.__wrapped__)

    class Stream:
        pass

    for cupy, problem in (
        (None, "cupy cannot be imported"),
        (SimpleNamespace(__version__="13.6.0", cuda=SimpleNamespace(Stream=Stream)), "cupy 13.6.0"),
    ):
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        assert backends.why_not("nvrtc", "cuda").startswith(problem)
        assert "nvrtc" not in lesionkit.available_backends("cuda")
    Stream.from_external = None
    assert backends.why_not("nvrtc", "cuda") is None


def test_block_and_setter():
    with lesionkit.use_backend("reference"):
        assert resolve() == "reference"
        with lesionkit.use_backend("cpu"):
            assert resolve() == "cpu"
        assert resolve() == "reference"
    assert resolve() == "cpu"
    lesionkit.use_backend("reference")
    assert resolve() == "reference"


def test_a_block_chooses_when_it_begins():
    block = lesionkit.use_backend("reference")
    lesionkit.use_backend("auto")
    with block:
        assert resolve() == "reference"
    assert resolve() == "cpu"


def test_block_restores_after_an_error():
    with pytest.raises(KeyError), lesionkit.use_backend("reference"):
        raise KeyError
    assert resolve() == "cpu"


def test_reference_backend_is_plain_torch():
    tensor = torch.randn(1, 3, 2, 2, 2, requires_grad=True)
    with lesionkit.use_backend("reference"):
        y = lesionkit.contextual_attention(tensor, tensor)
    assert "ToCopy" in type(y.grad_fn).__name__ or "Mul" in type(y.grad_fn).__name__


@pytest.mark.parametrize("name", ["", "gpu", "CPU", None])
def test_unknown_backend(name):
    with pytest.raises(ValueError, match="backend must be one of auto, reference, cpu"):
        lesionkit.use_backend(name)
    assert resolve() == "cpu"


def test_named_backend_never_falls_back():
    x = torch.empty(1, 3, 2, 2, 2, device="meta")
    with (
        lesionkit.use_backend("cpu"),
        pytest.raises(RuntimeError, match=r"'cpu' cannot run on meta tensors.*use_backend"),
    ):
        lesionkit.contextual_attention(x, x)


def test_environment_sets_the_default():
    code = (
        "import torch; from lesionkit.ops import backends;print(backends.resolve(torch.empty(1)))"
    )
    assert run_python(code, LESIONKIT_BACKEND="reference").stdout.strip() == "reference"
    assert run_python(code, LESIONKIT_BACKEND="auto").stdout.strip() == "cpu"
    wrong = run_python(code, LESIONKIT_BACKEND="gpu")
    assert wrong.returncode != 0
    assert "backend must be one of" in wrong.stderr


def test_without_the_library_the_reference_runs(monkeypatch):
    monkeypatch.setattr(backends, "_LIBRARY_PROBLEM", "liblesionkit_cpu.so is not built")
    assert lesionkit.available_backends() == ("reference",)
    assert resolve() == "reference"
    with (
        lesionkit.use_backend("cpu"),
        pytest.raises(RuntimeError, match="not built"),
    ):
        resolve()
