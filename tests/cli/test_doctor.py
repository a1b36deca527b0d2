import torch

import lesionkit as package

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


def test_says_why_a_backend_is_not_there(monkeypatch):
    from lesionkit.ops import backends

    monkeypatch.setattr(
        backends, "why_not", lambda name, kind: "not built" if name == "cpu" else None
    )
    _, out, _ = lesionkit("doctor")
    assert "backend cpu        no: not built" in out
