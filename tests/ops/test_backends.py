import os
import subprocess
import sys

import pytest
import torch

import lesionkit
from lesionkit.ops import backends


@pytest.fixture(autouse=True)
def restore_backend():
    with lesionkit.use_backend("auto"):
        yield


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_both_backends_are_there():
    assert lesionkit.available_backends() == ("reference", "cpu")
    assert lesionkit.available_backends("cuda") == ("reference",)


def test_auto_takes_the_fast_one():
    assert backends.resolve(torch.device("cpu")) == "cpu"
    assert backends.resolve(torch.device("cuda")) == "reference"


def test_block_and_setter():
    with lesionkit.use_backend("reference"):
        assert backends.resolve(torch.device("cpu")) == "reference"
        with lesionkit.use_backend("cpu"):
            assert backends.resolve(torch.device("cpu")) == "cpu"
        assert backends.resolve(torch.device("cpu")) == "reference"
    assert backends.resolve(torch.device("cpu")) == "cpu"
    lesionkit.use_backend("reference")
    assert backends.resolve(torch.device("cpu")) == "reference"


def test_block_restores_after_an_error():
    with pytest.raises(KeyError), lesionkit.use_backend("reference"):
        raise KeyError
    assert backends.resolve(torch.device("cpu")) == "cpu"


def test_reference_backend_is_plain_torch():
    tensor = torch.randn(1, 3, 2, 2, 2, requires_grad=True)
    with lesionkit.use_backend("reference"):
        y = lesionkit.contextual_attention(tensor, tensor)
    assert "ToCopy" in type(y.grad_fn).__name__ or "Mul" in type(y.grad_fn).__name__


@pytest.mark.parametrize("name", ["", "gpu", "CPU", None])
def test_unknown_backend(name):
    with pytest.raises(ValueError, match="backend must be one of auto, reference, cpu"):
        lesionkit.use_backend(name)
    assert backends.resolve(torch.device("cpu")) == "cpu"


def test_named_backend_never_falls_back():
    x = torch.empty(1, 3, 2, 2, 2, device="meta")
    with (
        lesionkit.use_backend("cpu"),
        pytest.raises(RuntimeError, match=r"'cpu' cannot run on meta tensors.*use_backend"),
    ):
        lesionkit.contextual_attention(x, x)


def test_environment_sets_the_default():
    code = (
        "import torch; from lesionkit.ops import backends;"
        "print(backends.resolve(torch.device('cpu')))"
    )
    assert run_python(code, LESIONKIT_BACKEND="reference").stdout.strip() == "reference"
    assert run_python(code, LESIONKIT_BACKEND="auto").stdout.strip() == "cpu"
    wrong = run_python(code, LESIONKIT_BACKEND="gpu")
    assert wrong.returncode != 0
    assert "backend must be one of" in wrong.stderr


def test_without_the_library_the_reference_runs(monkeypatch):
    monkeypatch.setattr(backends, "_LIBRARY_PROBLEM", "liblesionkit_cpu.so is not built")
    assert lesionkit.available_backends() == ("reference",)
    assert backends.resolve(torch.device("cpu")) == "reference"
    with (
        lesionkit.use_backend("cpu"),
        pytest.raises(RuntimeError, match="not built"),
    ):
        backends.resolve(torch.device("cpu"))
