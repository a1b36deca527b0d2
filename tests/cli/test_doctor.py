import re
from importlib.util import find_spec

import pytest
import torch

import lesionkit as package
from lesionkit.deploy import plugins
from lesionkit.deploy.plugins import LIBRARY, PLUGINS
from lesionkit.deploy.runtimes import RUNTIMES, why_not

from .lk import lesionkit


def test_says_what_is_there():
    code, out, err = lesionkit("doctor")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["lesionkit", package.__version__]
    assert any(line.split()[:2] == ["torch", torch.__version__] for line in lines)
    assert any(line.startswith(("CUDA", "cuda:0")) for line in lines)
    for backend in ("reference", "cpu", "triton", "cuda", "nvrtc"):
        (line,) = [line for line in lines if line.startswith(f"backend {backend} ")]
        for kind in ("cpu", "cuda"):
            there = "available" in line and kind.upper() in line
            assert there == (backend in package.available_backends(kind))
    assert any("pydicom" in line and "reading DICOM" in line for line in lines)


@pytest.mark.parametrize("name", RUNTIMES)
def test_tensorrt(name):
    _, out, err = lesionkit("doctor")
    assert err == ""
    (line,) = [line for line in out.splitlines() if line.startswith(f"{name} ")]
    if why_not(name) is not None:
        assert why_not(name) in line
        return
    use = {"tensorrt_lean": "runs version-compatible plans alone"}
    assert use.get(name, "builds and runs plans") in line
    assert re.search(r"plugins: \d+ of its own, ", line)
    found = ", ".join(PLUGINS) if LIBRARY.exists() else "none of lesionkit's"
    assert found in line


@pytest.mark.parametrize("exists", [False, True])
def test_tensorrt_plugins(monkeypatch, tmp_path, exists):
    library = tmp_path / "plugins.so"
    if exists:
        library.write_text("no library")
    monkeypatch.setattr(plugins, "LIBRARY", library)
    monkeypatch.setattr(plugins, "registered_plugins", lambda trt: [])
    code, out, _ = lesionkit("doctor")
    assert code == 0
    line = out[out.index("TensorRT plugins  ") :].partition("\n")[0]
    assert line.endswith(str(library) if exists else "with nvcc on the PATH")
    if find_spec("tensorrt_rtx"):
        assert ("none of lesionkit's (TensorRT plugins: tensorrt_rtx" in out) == exists


def test_says_why_a_backend_is_not_there(monkeypatch):
    from lesionkit.ops import backends

    monkeypatch.setattr(
        backends, "why_not", lambda name, kind: "not built" if name == "cpu" else None
    )
    _, out, _ = lesionkit("doctor")
    assert "backend cpu        no: not built" in out
