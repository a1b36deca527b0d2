import builtins
from dataclasses import replace

import onnx
import pytest
import torch

from lesionkit.deploy import export_onnx, read_metadata
from lesionkit.deploy import onnx as module
from lesionkit.errors import InputError
from tests.models.samples import TINY, detector


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"form": "both"}, "form must be one of native, plugin, got 'both'"),
        ({"precision": "int8"}, "precision must be one of float32, float16, got 'int8'"),
        ({"image_size": (3, 64)}, "image_size must be .* from 4 to"),
        ({"image_size": (64, 1 << 20)}, "image_size"),
        ({"image_size": 64}, "image_size"),
        ({"image_size": (64, 64.0)}, "image_size"),
        ({"image_size": (64,)}, "image_size"),
    ],
)
def test_wrong_arguments(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        export_onnx(detector(), tmp_path / "a.onnx", **changes)
    assert not any(tmp_path.iterdir())


def test_what_is_no_detector(tmp_path):
    with pytest.raises(TypeError, match="model must be a LesionDetector, got Linear"):
        export_onnx(torch.nn.Linear(2, 2), tmp_path / "a.onnx")


def test_more_proposals_than_topk_takes(tmp_path):
    model = detector(replace(TINY, rpn_post_nms=(300, 4000)))
    with pytest.raises(InputError, match=r"rpn_post_nms\[1\] must be at most 3840.* got 4000"):
        export_onnx(model, tmp_path / "a.onnx")


def test_weights_that_half_precision_does_not_hold(tmp_path):
    model = detector()
    with torch.no_grad():
        model.head.classes.weight[0, 0] = 1e5
    with pytest.raises(InputError, match=r"head\.classes\.weight are not finite in float16"):
        export_onnx(model, tmp_path / "a.onnx", precision="float16")


def test_weights_that_no_file_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MAX_BYTES", 1000)
    with pytest.raises(InputError, match="an ONNX file holds 2"):
        export_onnx(detector(), tmp_path / "a.onnx")


@pytest.mark.parametrize("name", ["onnx", "onnxscript"])
def test_missing_packages(tmp_path, monkeypatch, name):
    import_module = builtins.__import__

    def without(wanted, *arguments, **options):
        if wanted == name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return import_module(wanted, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=rf"package {name},.*lesionkit\[deploy\]"):
        export_onnx(detector(), tmp_path / "a.onnx")


def test_a_failed_export_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"old")
    model = detector()
    monkeypatch.setattr(module, "translate", lambda *_: Broken())
    with pytest.raises(OSError, match="no space"):
        export_onnx(model, path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


class Broken(list):
    """A program that cannot be saved."""

    def __init__(self):
        self.model, self.graph, self.metadata_props = self, Graph(), {}

    def save(self, path, **_):
        path.write_bytes(b"half")
        raise OSError("no space")


class Graph(list):
    metadata_props = {}  # noqa: RUF012


def test_the_model_stays_as_it_is(tmp_path, monkeypatch):
    model = detector().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.setattr(module, "translate", lambda *_: Broken())
    with pytest.raises(OSError, match="no space"):
        export_onnx(model, tmp_path / "a.onnx", precision="float16")
    assert model.training
    assert model.rpn.conv.weight.requires_grad
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "content,words",
    [
        (None, "cannot be read"),
        (b"\x00\x01nonsense", "damaged or not an ONNX file"),
        (b"", "damaged .it is empty"),
    ],
)
def test_files_that_are_none(tmp_path, content, words):
    path = tmp_path / "a.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.onnx: .*{words}"):
        read_metadata(path)


@pytest.mark.parametrize("path", ["/proc/self/mem", "/proc/self/cmdline", "/dev/zero", "/"])
def test_files_that_are_on_no_disk(path):
    with pytest.raises(InputError, match=f"{path}: .*give an ONNX file"):
        read_metadata(path)


def test_files_of_others(tmp_path):
    graph = onnx.helper.make_graph([], "nothing", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "a.onnx")
    with pytest.raises(InputError, match="does not say format 'lesionkit-onnx-1'"):
        read_metadata(tmp_path / "a.onnx")
