"""The GPU's tests of engines on fakes, and that they see what is wrong."""

import pytest
import torch

from lesionkit.deploy.graph import DetectorGraph
from tests.gpu import agreement
from tests.gpu import test_engine as on_gpu
from tests.gpu.agreement import Tolerance, assert_agree, unmatched

from . import fake_tensorrt as fake

TOLERANCE = on_gpu.TOLERANCES["float32"]


@pytest.fixture(scope="module")
def model():
    return agreement.trained_detector("cpu", steps=20)


@pytest.fixture
def plan(monkeypatch, tmp_path):
    monkeypatch.setattr(on_gpu, "DEVICE", "cpu")
    path = tmp_path / "a.plan"
    path.write_bytes(b"a plan")
    return path


def loaded(monkeypatch, model, precision):
    """Have all plans be of ``model``."""
    size = tuple(agreement.balls(1).shape[-2:])
    trt = fake.runtime(network=DetectorGraph(model, size), half=precision == "float16")
    fake.use(monkeypatch, trt)
    return trt


@pytest.mark.parametrize("precision", on_gpu.PRECISIONS)
def test_they_pass(monkeypatch, plan, model, precision):
    loaded(monkeypatch, model, precision)
    for cuda_graph in (False, True):
        on_gpu.test_equals_the_model(plan, model, precision, cuda_graph)
    on_gpu.test_images_at_an_odd_address(plan, precision)
    on_gpu.test_images_that_are_not_finite(plan)
    on_gpu.test_recorded_runs_equal_plain_ones(plan, precision)


def test_they_pass_where_nothing_is_found(monkeypatch, plan, model, tmp_path):
    blind = on_gpu.without_proposals(model)
    loaded(monkeypatch, blind, "float32")
    monkeypatch.setattr(on_gpu, "built", lambda *_: plan)
    on_gpu.test_no_detections(None, "native", "float32", model, blind, plan, tmp_path)


def test_they_see_another_model(monkeypatch, plan, model):
    changed = agreement.trained_detector("cpu", steps=19)
    loaded(monkeypatch, changed, "float32")
    with pytest.raises(AssertionError, match=r"detections differ|counts"):
        on_gpu.test_equals_the_model(plan, model, "float32", cuda_graph=False)


def found(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(count, generator=generator).sort(descending=True).values
    return {"boxes": 90 * torch.rand(count, 4, generator=generator), "scores": scores}


def changed(boxes=0.0, scores=0.0):
    right = found(50)
    right["boxes"][10:20, 2] += boxes
    right["scores"][30:] -= scores
    return right


@pytest.mark.parametrize(
    "wrong,words",
    [
        (changed(boxes=0.1), "20 of 140 detections differ"),
        (changed(scores=0.01), "detections differ"),
        (found(40), "counts"),
        (found(0), "counts"),
        ({name: value.flip(0) for name, value in found(50).items()}, ""),
    ],
)
def test_what_is_wrong_is_seen(wrong, words):
    with pytest.raises(AssertionError, match=words):
        assert_agree([found(20), wrong], [found(20), found(50)], TOLERANCE)


def test_what_is_right_passes():
    assert_agree([found(50), found(0)], [changed(1e-3, 1e-5), found(0)], TOLERANCE)
    assert_agree([], [], TOLERANCE)
    with pytest.raises(AssertionError, match="counts"):
        assert_agree([found(1)], [found(0)], TOLERANCE)


def test_empty_samples_are_compared():
    exact = Tolerance(0, 0, 0)
    assert unmatched(found(0), found(0), exact) == 0
    assert unmatched(found(3), found(0), exact) == unmatched(found(0), found(3), exact) == 3
    assert unmatched(found(3), found(3), exact) == 0
