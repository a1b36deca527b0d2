"""What stands in an ONNX file for each attention op, in both forms."""

import onnx
import onnxruntime
import pytest
import torch

import lesionkit
from lesionkit.deploy import native_form
from lesionkit.deploy.onnx import translate

SHAPE = (2, 3, 4, 5, 6)


class Attention(torch.nn.Module):
    def forward(self, x, logits):
        contextual = lesionkit.contextual_attention(x, logits, 1.5)
        spatial = lesionkit.spatial_attention(x, logits, 2.5)
        return contextual, spatial, lesionkit.dual_attention(x, logits, logits, 2.0, 3.5)


def exported(path, form, kind):
    inputs = {name: torch.zeros(SHAPE, dtype=kind) for name in ("x", "logits")}
    translate(Attention(), inputs, ["contextual", "spatial", "dual"], form).save(path)
    return onnx.load(path)


def test_native_form_equals_the_ops(tmp_path):
    model = exported(tmp_path / "a.onnx", "native", torch.float32)
    onnx.checker.check_model(model, full_check=True)
    kinds = {node.op_type for node in model.graph.node}
    assert {"ReduceMax", "Sub", "Exp", "Mul"} <= kinds <= {"ReduceMax", "Sub", "Div", "Exp", "Mul"}
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    x, logits = torch.randn(3, *SHAPE[1:]), torch.randn(3, *SHAPE[1:]) * 5
    found = session.run(None, {"x": x.numpy(), "logits": logits.numpy()})
    for y, expected in zip(found, Attention()(x, logits), strict=True):
        torch.testing.assert_close(torch.from_numpy(y), expected, rtol=1e-5, atol=1e-6)


PLUGIN = {"plugin_namespace": b"lesionkit", "plugin_version": b"1"}


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_plugin_form_has_a_node_for_each_op(tmp_path, kind):
    model = exported(tmp_path / "a.onnx", "plugin", kind)
    onnx.checker.check_model(model)
    nodes = {
        node.op_type: (
            node.domain,
            [*node.input],
            {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute},
        )
        for node in model.graph.node
    }
    assert nodes == {
        "ContextualAttention": ("lesionkit", ["x", "logits"], {"temperature": 1.5, **PLUGIN}),
        "SpatialAttention": ("lesionkit", ["x", "logits"], {"temperature": 2.5, **PLUGIN}),
        "DualAttention": (
            "lesionkit",
            ["x", "logits", "logits"],
            {"contextual_temperature": 2.0, "spatial_temperature": 3.5, **PLUGIN},
        ),
    }
    assert {o.domain: o.version for o in model.opset_import} == {"": 18, "lesionkit": 1}
    for output in model.graph.output:
        shape = [d.dim_param or d.dim_value for d in output.type.tensor_type.shape.dim]
        assert shape == ["batch", *SHAPE[1:]]
        assert output.type.tensor_type.elem_type == (1 if kind == torch.float32 else 10)


def test_half_maps_keep_float32_weights():
    x, logits = (torch.randn(SHAPE) * 3).half(), (torch.randn(SHAPE) * 5).half()
    for name in ("contextual_attention", "spatial_attention"):
        y = getattr(native_form, name)(x, logits, 2.5)
        assert y.dtype == torch.float16
        expected = getattr(lesionkit, name)(x, logits, 2.5)
        torch.testing.assert_close(y, expected, rtol=1e-3, atol=1e-6)
