"""Plans of small graphs, by the real TensorRT-RTX where it is installed; no GPU is needed."""

import hashlib
import json
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from lesionkit.deploy import build as module
from lesionkit.deploy import build_process
from lesionkit.deploy.build import build_engine
from lesionkit.deploy.plan import read_description
from lesionkit.deploy.plugins import LIBRARY
from lesionkit.errors import InputError

from .graphs import PLUGIN_NODES, write_graph

pytest.importorskip("onnx")
needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="no tensorrt_rtx")
needs_plugins = pytest.mark.skipif(
    not LIBRARY.exists(), reason="the TensorRT plugins are not built (TENSORRT_INCLUDE_DIR)"
)
EVERY_GPU = (80, 86, 89, 120)


@needs_rtx
@pytest.mark.parametrize("half", [False, True])
def test_builds_and_describes(tmp_path, half):
    onnx = write_graph(tmp_path / "small.onnx", half=half)
    plan = tmp_path / "new" / "small.plan"
    about = build_engine(onnx, plan, batch=(1, 2, 5), compute_capability=EVERY_GPU)
    assert about == {
        "runtime": "tensorrt_rtx",
        "version": about["version"],
        "compute_capability": [*EVERY_GPU],
        "batch": [1, 2, 5],
        "plugin_layers": [],
        "bytes": plan.stat().st_size,
        "sha256": hashlib.sha256(plan.read_bytes()).hexdigest(),
        "detector": {"format": "lesionkit-onnx-1", "form": "native"},
    }
    assert re.match(r"\d+\.\d+", about["version"])
    assert read_description(plan) == about
    assert sorted(path.name for path in plan.parent.iterdir()) == ["small.plan", "small.plan.json"]


@needs_rtx
def test_one_gpu_or_all(tmp_path):
    onnx = write_graph(tmp_path / "small.onnx")
    one = build_engine(onnx, tmp_path / "a.plan", compute_capability=89)
    every = build_engine(onnx, tmp_path / "b.plan")
    assert (one["compute_capability"], every["compute_capability"]) == ([89], None)
    assert one["sha256"] != every["sha256"]


@needs_rtx
@needs_plugins
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("node", PLUGIN_NODES)
def test_plugins(tmp_path, node, half):
    """The runtime needs a plugin's name and fields to make it anew: the plan has them."""
    onnx = tmp_path / "small.onnx"
    write_graph(onnx, node=node, domain="lesionkit", half=half, form="plugin")
    about = build_engine(onnx, tmp_path / "small.plan", compute_capability=EVERY_GPU)
    assert about["plugin_layers"] == [f"the_{node}"]
    plan = (tmp_path / "small.plan").read_bytes()
    for text in (node, *PLUGIN_NODES[node]):
        assert text.encode() in plan


@needs_rtx
@needs_plugins
def test_the_parser_needs_the_loader_path(tmp_path, monkeypatch):
    """What ``_environment`` is for; once the wheel has the name, it can go."""
    folder = Path(find_spec("tensorrt_rtx_libs").submodule_search_locations[0])
    if (folder / "libtensorrt_rtx.so").exists():
        pytest.skip("this TensorRT-RTX has libtensorrt_rtx.so")
    onnx = tmp_path / "small.onnx"
    write_graph(onnx, node="SpatialAttention", domain="lesionkit", form="plugin")
    monkeypatch.setattr(module, "_environment", lambda scratch: None)
    with pytest.raises(InputError, match=r"broke off while building \(exit code -6\): terminate"):
        build_engine(onnx, tmp_path / "small.plan")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.onnx"]


def refused(tmp_path, onnx, **options):
    with pytest.raises(InputError) as caught:
        build_engine(onnx, tmp_path / "refused.plan", **options)
    assert not [*tmp_path.glob("*refused*")]
    return str(caught.value)


@needs_rtx
def test_unknown_operator(tmp_path):
    onnx = write_graph(tmp_path / "odd.onnx", node="Nonsense", domain="lesionkit")
    message = refused(tmp_path, onnx)
    for words in (
        "odd.onnx",
        "tensorrt_rtx",
        "Nonsense",
        "Plugin not found",
        "lesionkit doctor",
        "native form",
    ):
        assert words in message


@needs_rtx
@needs_plugins
def test_attribute_that_the_plugin_refuses(tmp_path, monkeypatch):
    monkeypatch.setitem(PLUGIN_NODES["SpatialAttention"], "temperature", -1.0)
    onnx = tmp_path / "odd.onnx"
    write_graph(onnx, node="SpatialAttention", domain="lesionkit", form="plugin")
    words = "lesionkit SpatialAttention: temperature must be finite and above 0, got -1"
    assert words in refused(tmp_path, onnx)


@needs_rtx
def test_unknown_gpu(tmp_path):
    onnx = write_graph(tmp_path / "small.onnx")
    message = refused(tmp_path, onnx, compute_capability=(89, 90))
    assert re.search(r"compute_capability 90: tensorrt_rtx [\d.]+ builds for 75, 80, 86,", message)


@needs_rtx
def test_fixed_batch(tmp_path):
    message = refused(tmp_path, write_graph(tmp_path / "fixed.onnx", batch=2))
    assert "fixed.onnx: input images is (2, 3, 3, 32, 32)" in message


def test_files_that_are_no_export(tmp_path):
    (tmp_path / "text.onnx").write_text("not an ONNX file")
    for name in ("text.onnx", "none.onnx"):
        assert name in refused(tmp_path, tmp_path / name)


def test_runtimes_that_cannot(tmp_path):
    onnx = write_graph(tmp_path / "small.onnx")
    assert "must be auto or one of tensorrt, " in refused(tmp_path, onnx, runtime="tensorflow")
    assert refused(tmp_path, onnx, runtime="tensorrt_lean").startswith("runtime tensorrt_lean: ")


@pytest.mark.parametrize("batch", [(0, 1, 2), (1, 3, 2), (1, 2), 4, (1.0, 2, 3), (True, 1, 1)])
def test_impossible_batches(tmp_path, batch):
    with pytest.raises(ValueError, match=r"batch must be .* got "):
        build_engine(tmp_path / "small.onnx", tmp_path / "a.plan", batch=batch)


@pytest.mark.parametrize("capability", [8.9, "89", (), (80, "86"), True])
def test_impossible_gpus(tmp_path, capability):
    with pytest.raises(ValueError, match="compute_capability must be an integer"):
        build_engine(tmp_path / "a.onnx", tmp_path / "a.plan", compute_capability=capability)


def test_plugins_that_are_not_built(monkeypatch, tmp_path):
    trt = pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr("lesionkit.deploy.plugins.LIBRARY", tmp_path / "none.so")
    monkeypatch.setattr("lesionkit.deploy.plugins.registered_plugins", lambda trt: [])
    with pytest.raises(InputError, match=r"none\.so is not built; set TENSORRT_INCLUDE_DIR"):
        build_process.build(trt, "a.onnx", "a.plan", [1, 1, 1], None, needs_plugins=True)


def test_a_runtime_without_a_choice_of_gpus():
    trt = SimpleNamespace(__name__="tensorrt", IBuilderConfig=object)
    with pytest.raises(InputError, match="89: tensorrt builds for the GPU of this machine alone"):
        build_process._set_compute_capability(trt, None, [89])


def test_network_flags_of_every_runtime():
    flags = SimpleNamespace(EXPLICIT_BATCH=0, STRONGLY_TYPED=1)
    assert build_process._network_flags(SimpleNamespace(NetworkDefinitionCreationFlag=flags)) == 2
    flags = SimpleNamespace(EXPLICIT_BATCH=0)  # where every network is strongly typed
    assert build_process._network_flags(SimpleNamespace(NetworkDefinitionCreationFlag=flags)) == 0


def test_the_process_ends_with_its_parent(tmp_path):
    """Killed, the parent cannot end it; then the kernel does."""
    request = {"runtime": "auto", "report": str(tmp_path / "report.json"), "build": {}}
    child = "import sys, time; from lesionkit.deploy import build_process as p; "
    child += "p.load_runtime = lambda *_: (print('up', flush=True), time.sleep(60)); p.main()"
    parent = (
        "import subprocess, sys, time; c = subprocess.Popen([sys.executable, '-c', sys.argv[1]], "
        "stdin=subprocess.PIPE, text=True); c.stdin.write(sys.argv[2]); c.stdin.close(); "
        "time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent, child, json.dumps(request)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGKILL)
    # The child has the other end of this pipe: it closes when both are gone.
    assert process.communicate(timeout=20)[0] == ""
