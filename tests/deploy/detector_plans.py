"""A whole detector, exported, becomes a real plan without a GPU: what is checked of each.

Exports take seconds: the tests stand where the files are, and in two files, which run side by side.
"""

from importlib.util import find_spec

import onnx
import pytest

from lesionkit.deploy import build_engine, read_metadata
from lesionkit.deploy.plugins import LIBRARY, PLUGINS

EVERY_GPU = (80, 86, 89, 120)
NODES = ("ContextualAttention", "SpatialAttention", "PSRoIPool")  # of the presets

forms = pytest.mark.parametrize("form", ["native", "plugin"])
precisions = pytest.mark.parametrize("precision", ["float32", "float16"])
needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="no tensorrt_rtx")


def check(file, form, precision, model, folder):
    """``file`` is ``model`` in ONNX; the plan goes to ``folder``."""
    if form == "plugin" and not LIBRARY.exists():
        pytest.skip("the TensorRT plugins are not built (TENSORRT_INCLUDE_DIR)")
    plan = folder / "detector.plan"
    about = build_engine(file, plan, batch=(1, 2, 4), compute_capability=EVERY_GPU)
    assert about["compute_capability"] == [*EVERY_GPU]
    assert about["detector"] == read_metadata(file)

    own = [node for node in onnx.load(file).graph.node if node.domain == "lesionkit"]
    expected = NODES if form == "plugin" else ()
    assert [node.op_type for node in own] == [*expected]
    assert about["plugin_layers"] == [f"{name}_{i}" for i, name in enumerate(expected)]
    # A plan names the plugins that a runtime has to make when it loads it.
    content = plan.read_bytes()
    assert {name for name in PLUGINS if name.encode() in content} == {*expected}

    weights = sum(parameter.numel() for parameter in model.parameters())
    bytes_each = 4 if precision == "float32" else 2
    extra = 12 << 20  # kernels and what else is in a plan
    assert weights * bytes_each <= len(content) < weights * bytes_each + extra
