"""Plans that cannot be loaded: the error says why and what to do."""

import json
from types import SimpleNamespace

import pytest

from lesionkit.deploy.plan import description_path, load_plan, read_description, write_description
from lesionkit.errors import InputError

from . import fake_tensorrt as fake
from .graphs import write_graph

REMEDY = "build it again on this machine with lesionkit export --format tensorrt"


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "detector.plan"
    path.write_bytes(b"a plan")
    return path


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A real plan of TensorRT-RTX, and its module."""
    trt = pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("onnx")
    from lesionkit.deploy.build import build_engine

    folder = tmp_path_factory.mktemp("real")
    build_engine(write_graph(folder / "small.onnx"), folder / "small.plan", runtime="tensorrt_rtx")
    return trt, folder / "small.plan"


def refused(trt, plan, about=None, capability=90):
    with pytest.raises(InputError) as caught:
        load_plan(trt, plan, about or {}, capability)
    message = str(caught.value)
    assert message.startswith(f"{plan}: ")
    return message


def test_description(plan):
    assert read_description(plan) == {}
    about = write_description(plan, {"runtime": "tensorrt", "batch": [1, 2, 3]})
    assert about["bytes"] == 6
    assert len(about["sha256"]) == 64
    assert read_description(plan) == about


@pytest.mark.parametrize("content", [b"a pl", b"a plan and more"])
def test_truncated_by_its_description(plan, content):
    write_description(plan, {})
    plan.write_bytes(content)
    words = rf"has {len(content)} bytes, but 6 by detector\.plan\.json: it is truncated"
    with pytest.raises(InputError, match=words):
        read_description(plan)


def test_empty_plan(plan):
    write_description(plan, {})
    plan.write_bytes(b"")
    with pytest.raises(InputError, match=r"detector\.plan: damaged \(it is empty\)"):
        read_description(plan)


@pytest.mark.parametrize(
    "content",
    [
        *(b"{", b"[1]", b"{}", b'"bytes"', b"null", b"[" * 10**5, b'{"\xff'),
        *(b'{"bytes": "6"}', b'{"bytes": 6, "runtime": []}', b'{"bytes": 6, "detector": null}'),
    ],
)
def test_description_of_something_else(plan, content):
    description_path(plan).write_bytes(content)
    with pytest.raises(InputError, match=r"detector\.plan\.json: does not describe a plan"):
        read_description(plan)


def test_description_that_cannot_be_read(plan):
    description_path(plan).mkdir()
    words = r"detector\.plan\.json: cannot be read \(Is a directory\); move it away"
    with pytest.raises(InputError, match=words):
        read_description(plan)


def test_real_truncated_plan(real, tmp_path):
    """TensorRT-RTX reads the header before it needs a GPU."""
    trt, plan = real
    cut = tmp_path / "cut.plan"
    cut.write_bytes(plan.read_bytes()[:-100])
    message = refused(trt, cut)
    assert "it is no plan of this runtime, or a damaged one" in message
    assert REMEDY in message
    assert "Serialization" in message


def test_real_changed_plan(real, tmp_path):
    trt, plan = real
    content = bytearray(plan.read_bytes())
    content[16] ^= 0xFF
    changed = tmp_path / "changed.plan"
    changed.write_bytes(content)
    message = refused(trt, changed, read_description(plan))
    assert "it is damaged: its bytes are not those that were written" in message


@pytest.mark.parametrize("content", [b"P", b"PK\3\4" * 100, b"\0" * 4096])
def test_real_unknown_file(real, tmp_path, content):
    trt, _ = real
    path = tmp_path / "unknown.plan"
    path.write_bytes(content)
    message = refused(trt, path)
    assert "it is no plan, or a damaged one" in message
    assert REMEDY in message


def test_real_plan_without_a_gpu(real):
    trt, plan = real
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    message = refused(trt, plan, read_description(plan))
    assert "CUDA does not work on this machine" in message
    assert "damaged" not in message


def test_plan_without_description_finds_the_plugins(plan, monkeypatch):
    """As trtexec makes it."""
    trt, loaded = fake.runtime("tensorrt_rtx"), []
    trt.get_plugin_registry = None
    monkeypatch.setattr("lesionkit.deploy.plan.why_no_library", lambda: None)
    monkeypatch.setattr("lesionkit.deploy.plan.load_plugins", loaded.append)
    load_plan(trt, plan, {}, 90)
    assert loaded == ["tensorrt_rtx"]


def test_plugin_that_is_not_registered(plan):
    trt = fake.runtime(answer="Cannot find plugin creator PSRoIPool")
    message = refused(trt, plan, {"runtime": "tensorrt"})
    assert "lesionkit.deploy.load_plugins() registers lesionkit's" in message


def test_what_the_lean_runtime_runs(plan):
    message = refused(fake.runtime("tensorrt_lean", answer="no"), plan, {"runtime": "tensorrt"})
    assert "tensorrt_lean runs version-compatible plans alone" in message


def test_version_of_an_unnamed_runtime(plan):
    message = refused(fake.runtime(answer="no"), plan, {"version": "9.9"})
    assert "it was built by TensorRT 9.9, and this is 10.1" in message


def test_other_gpu(plan):
    trt = fake.runtime(answer="generated on an incompatible device")
    about = {"runtime": "tensorrt", "version": "10.1", "compute_capability": [80, 86]}
    message = refused(trt, plan, about, 90)
    assert "it was built for SM80, SM86, and this GPU is SM90" in message
    assert REMEDY in message
    assert message.endswith("tensorrt 10.1: generated on an incompatible device")


def test_other_version(plan):
    trt = fake.runtime(answer="not compatible with this version")
    message = refused(trt, plan, {"runtime": "tensorrt", "version": "10.0"})
    assert "it was built by tensorrt 10.0, and this is 10.1" in message
    assert REMEDY in message


def test_diagnoses_of_the_runtime(plan):
    """TensorRT-RTX says itself what is wrong, as bits."""
    trt = fake.runtime("tensorrt_rtx", answer="no")
    members = {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "OLD_CUDA_DRIVER": 4, "NEW_ONE": 8}
    trt.EngineInvalidityDiagnostics = SimpleNamespace(__members__=members)
    trt.Runtime.get_engine_validity = lambda self, serialized: (2, 2 | 4 | 8)
    message = refused(trt, plan)
    assert "it was not built for this GPU; the GPU's driver is too old; update" in message
    assert "new_one" in message
    assert "another version" not in message


def test_names_of_the_diagnoses():
    trt = pytest.importorskip("tensorrt_rtx")
    from lesionkit.deploy.plan import _DIAGNOSES

    assert {*_DIAGNOSES} == {*trt.EngineInvalidityDiagnostics.__members__}


def test_missing_plugins(plan, monkeypatch, tmp_path):
    trt = fake.runtime("tensorrt_rtx")
    trt.get_plugin_registry = lambda: SimpleNamespace(all_creators=[])
    monkeypatch.setattr("lesionkit.deploy.plugins.load_runtime", lambda *_: trt)
    monkeypatch.setattr("lesionkit.deploy.plugins.LIBRARY", tmp_path / "none.so")
    with pytest.raises(InputError, match=r"TensorRT plugins: none\.so is not built; set TENSORRT"):
        load_plan(trt, plan, {"plugin_layers": ["node_PSRoIPool"]}, 90)


def test_the_error_is_one_line(plan):
    trt = fake.runtime(answer="first\nsecond")
    message = refused(trt, plan, json.loads("{}"))
    assert message.endswith("first second")
