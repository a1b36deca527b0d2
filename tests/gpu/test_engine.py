"""Engines on the GPU: TensorRT or TensorRT-RTX, whichever is installed, against the model."""

import pytest
import torch
from torchvision.ops import box_iou

from lesionkit.deploy import Engine, build_engine, export_onnx
from lesionkit.deploy.plugins import LIBRARY
from lesionkit.deploy.runtimes import RUNTIMES, why_not
from lesionkit.errors import InputError
from lesionkit.models import LesionDetector
from lesionkit.models.boxes import to_half_open
from tests.gpu import gpu

BUILDERS = [name for name in RUNTIMES if name != "tensorrt_lean"]
pytestmark = [*gpu, pytest.mark.usefixtures("exact")]


@pytest.fixture
def exact(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return LesionDetector("tiny").eval()


@pytest.fixture(scope="module", params=BUILDERS)
def runtime(request):
    if why_not(request.param) is not None:
        pytest.skip(f"{request.param} {why_not(request.param)}")
    return request.param


@pytest.fixture(scope="module", params=["native", "plugin"])
def plan(request, runtime, model, tmp_path_factory):
    if request.param == "plugin" and not LIBRARY.exists():
        pytest.skip("the TensorRT plugins are not built (TENSORRT_INCLUDE_DIR)")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("engine")
    export_onnx(model, folder / "a.onnx", form=request.param)
    build_engine(folder / "a.onnx", folder / "a.plan", runtime=runtime, batch=(1, 2, 3))
    try:
        Engine(folder / "a.plan")
    except InputError as error:
        if runtime == "tensorrt_rtx" and "not built for this GPU" in str(error):
            pytest.skip(str(error))  # it knows some GPUs only
        raise
    return folder / "a.plan"


def images(batch):
    generator = torch.Generator().manual_seed(batch)
    return 50 * torch.randn(batch, 3, 3, 192, 192, generator=generator).cuda()


def agreement(found, right):
    """Of the best detections, the part that is found again; the order of equal ones is free."""
    best = right["scores"][:20]
    boxes = [to_half_open(boxes) for boxes in (right["boxes"][:20], found["boxes"])]
    overlap, index = box_iou(*boxes).max(1)
    same = (overlap > 0.95) & ((found["scores"][index] - best).abs() < 0.01)
    return same.float().mean()


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_equals_the_model(plan, model, cuda_graph):
    engine = Engine(plan, cuda_graph=cuda_graph)
    for batch in (1, 3, 2, 3):
        given = images(batch)
        with torch.no_grad():
            expected = model.cuda()(given)
        for found, right in zip(engine.detect(given), expected, strict=True):
            assert agreement(found, right) > 0.9


def test_order_among_streams(plan):
    engine, given = Engine(plan), images(2)
    expected = engine(given)
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(3)]
    results = []
    for _ in range(5):
        for stream in streams:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                results.append(engine(given + 0))
    torch.cuda.synchronize()
    for result in results:
        for name, value in expected.items():
            assert torch.equal(result[name], value)


def test_repeats_itself_as_a_graph(plan):
    plain, recorded, given = Engine(plan), Engine(plan, cuda_graph=True), images(2)
    for name, value in plain(given).items():
        torch.testing.assert_close(recorded(given)[name], value, rtol=1e-4, atol=1e-3)
