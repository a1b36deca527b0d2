import json
import shutil
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from lesionkit import __version__
from lesionkit.deploy import read_metadata
from lesionkit.models import save_detector
from tests.cli.lk import lesionkit
from tests.gpu.agreement import Tolerance, assert_agree

from .detector_plans import check, forms, needs_rtx, precisions

FORMS = ("native", "plugin")


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def native(exported):
    return session(exported())


def run(session, images):
    return [torch.from_numpy(o) for o in session.run(None, {"images": images.numpy()})]


def detections(trained, images):
    with torch.no_grad():
        return trained(images)


def test_native_gives_the_models_boxes_and_scores(native, trained, images):
    boxes, scores, count = run(native, images)
    expected = detections(trained, images)
    assert count.tolist() == [len(found["scores"]) for found in expected]
    best = []
    for b, found in enumerate(expected):
        n = len(found["scores"])
        torch.testing.assert_close(boxes[b, :n], found["boxes"], rtol=0, atol=0.05)
        torch.testing.assert_close(scores[b, :n], found["scores"], rtol=0, atol=1e-4)
        assert not boxes[b, n:].any()
        assert not scores[b, n:].any()
        assert n >= 5
        # Padding is alike everywhere, and so are the scores there.
        height, width = (images[b] != 0).flatten(0, 1).any(0).nonzero().amax(0)
        inside = (found["boxes"][:, 2] < width) & (found["boxes"][:, 3] < height)
        best += found["scores"][inside][:1].tolist()
    # It has learnt something, and tells samples apart.
    assert len(set(count.tolist())) > 3
    assert len(best) > 10
    assert np.std(best) > 0.01


def test_smooth_images(native, trained, images):
    """Whose scores fall slowly, which makes the longest chains of boxes for suppression."""
    height, width = images.shape[-2:]
    x, y = torch.arange(width) / width, torch.arange(height)[:, None] / height
    body = ((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1).float()
    smooth = torch.stack(
        [torch.full((height, width), -50.0), 300 * x.expand(height, -1) - 150, 250 * body - 200]
    )
    smooth = smooth[:, None, None].expand(-1, *images.shape[1:]).contiguous()
    boxes, scores, count = run(native, smooth)
    for b, found in enumerate(detections(trained, smooth)):
        n = count[b]
        assert n == len(found["scores"])
        torch.testing.assert_close(boxes[b, :n], found["boxes"], rtol=0, atol=0.05)
        torch.testing.assert_close(scores[b, :n], found["scores"], rtol=0, atol=1e-4)


def test_any_batch_size(native, images):
    together = run(native, images[:3])
    for size in (1, 2):
        for part, whole in zip(run(native, images[:size]), together, strict=True):
            torch.testing.assert_close(part, whole[:size], rtol=0, atol=1e-4)
    for part, whole in zip(run(native, images[2:3]), together, strict=True):
        torch.testing.assert_close(part, whole[2:], rtol=0, atol=1e-4)


def test_interface(exported, trained, images):
    number = trained.config.rpn_post_nms[1]
    for form, precision, kind in (
        ("native", "float32", "float"),
        ("native", "float16", "float16"),
    ):
        inference = session(exported(form, precision))
        (source,) = inference.get_inputs()
        assert (source.name, source.type) == ("images", f"tensor({kind})")
        assert source.shape == ["batch", *images.shape[1:]]
        outputs = {o.name: (o.type, o.shape) for o in inference.get_outputs()}
        assert outputs == {
            "boxes": ("tensor(float)", ["batch", number, 4]),
            "scores": ("tensor(float)", ["batch", number]),
            "count": ("tensor(int32)", ["batch"]),
        }


def test_half_precision(exported, native, trained, images):
    found, expected = (
        [
            {"boxes": boxes[:n], "scores": scores[:n]}
            for boxes, scores, n in zip(*outputs[:2], outputs[2].tolist(), strict=True)
        ]
        for outputs in (
            run(session(exported("native", "float16")), images.half()),
            run(native, images),
        )
    )
    assert_agree(found, expected, Tolerance(pixels=1.0, score=0.03, share=0.1))
    graph = onnx.load(exported("native", "float16")).graph
    kinds = {weights.name: weights.data_type for weights in graph.initializer}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert {kinds[node.input[1]] for node in layers} == {onnx.TensorProto.FLOAT16}


def test_broken_images_are_told(native, images):
    broken = images[:2].clone()
    broken[0, 1, 1, 8, 8] = np.inf
    _, _, count = run(native, broken)
    assert count[0] == -1
    assert count[1] > 0


@pytest.mark.parametrize("form", FORMS)
def test_nodes(exported, form):
    model = onnx.load(exported(form))
    onnx.checker.check_model(model, full_check=form == "native")
    assert not model.functions
    domains = {o.domain: o.version for o in model.opset_import}
    own = Counter(node.op_type for node in model.graph.node if node.domain)
    standard = {node.op_type for node in model.graph.node if not node.domain}
    # What TensorRT cannot build, or cannot capture into a CUDA graph.
    assert not standard & {"NonMaxSuppression", "NonZero", "Loop", "If", "Scan"}
    for node in model.graph.node:
        assert not node.metadata_props
    if form == "native":
        assert domains == {"": 18}
        assert not own
        assert {"ReduceMax", "Sub", "Exp", "Mul", "MatMul"} <= standard
    else:
        assert domains == {"": 18, "lesionkit": 1}
        assert own == {"ContextualAttention": 1, "SpatialAttention": 1, "PSRoIPool": 1}
        attributes = {
            node.op_type: {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            for node in model.graph.node
            if node.domain
        }
        plugin = {"plugin_namespace": b"lesionkit", "plugin_version": b"1"}
        assert attributes == {
            "ContextualAttention": {"temperature": 2.0, **plugin},
            "SpatialAttention": {"temperature": 3.0, **plugin},
            "PSRoIPool": {
                "output_size": 5,
                "spatial_scale": 0.25,
                "convention": b"rfcn",
                **plugin,
            },
        }


@pytest.mark.parametrize("form", FORMS)
def test_metadata(exported, trained, images, form):
    config = json.loads(json.dumps(trained.config.to_dict()))
    assert read_metadata(exported(form)) == {
        "format": "lesionkit-onnx-1",
        "version": __version__,
        "preset": "tiny",
        "form": form,
        "precision": "float32",
        "image_size": list(images.shape[-2:]),
        "class_names": ["lesion"],
        "preprocessing": config["preprocessing"],
        "config": config,
    }


def test_the_file_is_whole_and_says_nothing_of_this_machine(exported):
    path = exported("plugin")
    assert [p.name for p in path.parent.iterdir() if p.stem == path.stem] == [path.name]
    content = path.read_bytes()
    assert b"external" not in content
    assert b".py" not in content
    assert path.stat().st_size < 4 * 300_000


@needs_rtx
@forms
@precisions
def test_plan(tmp_path, exported, trained, form, precision):
    check(exported(form, precision), form, precision, trained, tmp_path)


@needs_rtx
def test_plan_for_one_gpu_through_the_command_line(tmp_path, exported, trained, monkeypatch):
    save_detector(trained, tmp_path / "tiny.safetensors")
    monkeypatch.setattr(
        "lesionkit.deploy.export_onnx", lambda model, path, **_: shutil.copy(exported(), path)
    )
    code, _, err = lesionkit(
        *("export", "--weights", tmp_path / "tiny.safetensors", "--out", tmp_path / "out"),
        *("--format", "tensorrt", "--runtime", "tensorrt_rtx", "--compute-capability", "89"),
    )
    assert code == 0, err
    about = json.loads((tmp_path / "out" / "detector.plan.json").read_text())
    assert (about["compute_capability"], about["batch"]) == ([89], [1, 1, 4])
    assert about["detector"] == read_metadata(exported())
    weights = sum(parameter.nbytes for parameter in trained.parameters())
    assert (tmp_path / "out" / "detector.plan").stat().st_size > weights
