"""The whole detectors, exported in both forms and precisions, become real plans without a GPU."""

from functools import cache
from importlib.util import find_spec

import onnx
import pytest
import torch

from lesionkit.deploy import build_engine, export_onnx
from lesionkit.deploy.plugins import LIBRARY, PLUGINS
from lesionkit.models import LesionDetector

pytestmark = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="no tensorrt_rtx")
EVERY_GPU = (80, 86, 89, 120)
NODES = ("ContextualAttention", "SpatialAttention", "PSRoIPool")  # of the presets
SIDES = {"tiny": 192, "3dce_cs_att": 512}


@cache
def detector(preset):
    torch.manual_seed(0)
    return LesionDetector(preset).eval()


@pytest.mark.parametrize("preset", SIDES)
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("form", ["native", "plugin"])
def test_plan(tmp_path, preset, precision, form):
    if form == "plugin" and not LIBRARY.exists():
        pytest.skip("the TensorRT plugins are not built (TENSORRT_INCLUDE_DIR)")
    model, file = detector(preset), tmp_path / "detector.onnx"
    export_onnx(model, file, form=form, precision=precision)
    about = build_engine(
        file, tmp_path / "detector.plan", batch=(1, 2, 4), compute_capability=EVERY_GPU
    )
    assert about["compute_capability"] == [*EVERY_GPU]
    assert about["detector"]["image_size"] == [SIDES[preset]] * 2

    own = [node for node in onnx.load(file).graph.node if node.domain == "lesionkit"]
    expected = NODES if form == "plugin" else ()
    assert sorted(node.op_type for node in own) == sorted(expected)
    assert sorted(about["plugin_layers"]) == sorted(node.name for node in own)
    # A plan names the plugins that a runtime has to make when it loads it.
    plan = (tmp_path / "detector.plan").read_bytes()
    assert {name for name in PLUGINS if name.encode() in plan} == {*expected}

    weights = sum(parameter.numel() for parameter in model.parameters())
    bytes_each = 4 if precision == "float32" else 2
    extra = 10 << 20  # kernels and what else is in a plan
    assert weights * bytes_each <= len(plan) < weights * bytes_each + extra
