"""Engines on the GPU: TensorRT or TensorRT-RTX, whichever is installed, against the model.

tests/deploy/test_engine_agreement.py has what is here run on fakes, without a GPU.
"""

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from lesionkit.deploy import Engine, build_engine, export_onnx
from lesionkit.deploy.plugins import LIBRARY
from lesionkit.deploy.runtimes import RUNTIMES, why_not
from lesionkit.errors import InputError
from lesionkit.models import LesionDetector
from tests.gpu import gpu
from tests.gpu.agreement import Tolerance, assert_agree, balls, trained_detector

DEVICE = "cuda"
BUILDERS = [name for name in RUNTIMES if name != "tensorrt_lean"]
FORMS, PRECISIONS = ("native", "plugin"), ("float32", "float16")
# Noise of 1e-5 in every layer turns 1 % of the choices, rounding to float16 as many.
TOLERANCES = {
    "float32": Tolerance(pixels=0.05, score=1e-3, share=0.03),
    "float16": Tolerance(pixels=1.0, score=0.03, share=0.1),
}
pytestmark = [*gpu, pytest.mark.usefixtures("exact")]


@pytest.fixture
def exact(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def model():
    return trained_detector(DEVICE)


@pytest.fixture(scope="module")
def blind(model):
    """The same, which finds nothing."""
    return without_proposals(model)


@pytest.fixture(scope="module", params=BUILDERS)
def runtime(request):
    if why_not(request.param) is not None:
        pytest.skip(f"{request.param} {why_not(request.param)}")
    return request.param


@pytest.fixture(scope="module", params=PRECISIONS)
def precision(request):
    return request.param


@pytest.fixture(scope="module", params=FORMS)
def form(request):
    if request.param == "plugin" and not LIBRARY.exists():
        pytest.skip("the TensorRT plugins are not built (TENSORRT_INCLUDE_DIR)")
    return request.param


@pytest.fixture(scope="module")
def plan(runtime, form, precision, model, tmp_path_factory):
    return built(model, tmp_path_factory.mktemp("engine"), runtime, form, precision)


def built(model, folder, runtime, form, precision):
    """A plan for balls; skips where TensorRT-RTX does not know this GPU."""
    if find_spec("onnxscript") is None:
        pytest.skip("onnxscript is not installed")
    size = tuple(balls(1).shape[-2:])
    export_onnx(model, folder / "a.onnx", form=form, image_size=size, precision=precision)
    build_engine(folder / "a.onnx", folder / "a.plan", runtime=runtime, batch=(1, 2, 3))
    try:
        Engine(folder / "a.plan", device=DEVICE)
    except InputError as error:
        if runtime == "tensorrt_rtx" and "not built for this GPU" in str(error):
            pytest.skip(str(error))
        raise
    return folder / "a.plan"


def without_proposals(model):
    blind = LesionDetector(replace(model.config, rpn_min_size=1000.0)).to(DEVICE).eval()
    blind.load_state_dict(model.state_dict())
    return blind


def detections(model, images):
    with torch.no_grad():
        return model(images)


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_equals_the_model(plan, model, precision, cuda_graph):
    engine = Engine(plan, device=DEVICE, cuda_graph=cuda_graph)
    images = balls(20).to(DEVICE)
    expected = detections(model, images)
    assert all(len(sample["scores"]) > 5 for sample in expected)
    found = []
    # Sizes come again, so that recorded graphs run on other images than they were recorded with.
    for part in images.split([1, 3, 2, 3, 1, 3, 2, 3, 2]):
        found += engine.detect(part.to(engine.dtype))
    assert_agree(found, expected, TOLERANCES[precision])


def test_images_at_an_odd_address(plan, precision):
    engine = Engine(plan, device=DEVICE)
    images = balls(2).to(DEVICE, engine.dtype)
    moved = torch.empty(images.numel() + 1, dtype=engine.dtype, device=DEVICE)[1:]
    moved = moved.view(images.shape).copy_(images)
    assert moved.data_ptr() % 4 == (2 if precision == "float16" else 0)
    assert moved.data_ptr() % 16
    assert_agree(engine.detect(moved), engine.detect(images), TOLERANCES[precision])


def test_no_detections(runtime, form, precision, model, blind, plan, tmp_path):
    """``plan`` comes first: where it cannot run, this cannot."""
    images = balls(3).to(DEVICE)
    expected = detections(blind, images)
    assert not any(len(sample["scores"]) for sample in expected)
    engine = Engine(built(blind, tmp_path, runtime, form, precision), device=DEVICE)
    found = engine.detect(images.to(engine.dtype))
    assert_agree(found, expected, TOLERANCES[precision])
    assert [tuple(sample["boxes"].shape) for sample in found] == [(0, 4)] * 3


def test_images_that_are_not_finite(plan):
    engine = Engine(plan, device=DEVICE)
    images = balls(2).to(DEVICE, engine.dtype)
    images[1, 1, 1, 8, 8] = torch.inf
    assert engine(images)["count"].tolist()[1] == -1
    with pytest.raises(FloatingPointError, match="of sample 1 are not finite"):
        engine.detect(images)


def test_recorded_runs_equal_plain_ones(plan, precision):
    plain, recorded = (
        Engine(plan, device=DEVICE, cuda_graph=cuda_graph) for cuda_graph in (False, True)
    )
    for first in (1000, 1002, 1000):
        images = balls(2, first).to(DEVICE, plain.dtype)
        assert_agree(recorded.detect(images), plain.detect(images), TOLERANCES[precision])


def test_order_among_streams(plan, precision):
    engine = Engine(plan, device=DEVICE)
    images = balls(2).to(DEVICE, engine.dtype)
    expected = engine.detect(images)
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(3)]
    results = []
    for _ in range(5):
        for stream in streams:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                results.append((stream, engine(images + 0)))
    for stream, result in results:
        stream.synchronize()
        rows = zip(result["boxes"], result["scores"], result["count"].tolist(), strict=True)
        found = [{"boxes": boxes[:n], "scores": scores[:n]} for boxes, scores, n in rows]
        assert_agree(found, expected, TOLERANCES[precision])
