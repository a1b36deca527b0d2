"""Small ONNX graphs, made by hand, that stand for an exported detector."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lesionkit.deploy import onnx as export

PLUGIN_NODES = {
    "ContextualAttention": {"temperature": 2.0},
    "SpatialAttention": {"temperature": 3.0},
    "DualAttention": {"contextual_temperature": 2.0, "spatial_temperature": 3.0},
    "PSRoIPool": {"output_size": 2, "spatial_scale": 0.5, "convention": "rfcn"},
}
INPUTS = {"DualAttention": ["x", "x", "x"], "PSRoIPool": ["key", "rois"]}


def write_graph(path, *, node="Relu", domain="", half=False, batch="batch", form="native"):
    """images -> convolution -> ``node`` -> scores, with the metadata of ``form``.

    ``node`` is a standard operator, or one of lesionkit's plugins in its domain.
    """
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    weights = np.random.default_rng(0).normal(size=(8, 3, 3, 3))
    constants = {
        "weights": weights.astype(np.float16 if half else np.float32),
        "flat": np.array([-1, 3, 32, 32]),
        "unflat": np.array([-1, 3, 8, 32, 32]),
        "rois": np.zeros((5, 5), np.float32),
        "first": np.array(0),
        "axes": np.array([-1, -2]),
    }
    attributes = PLUGIN_NODES.get(node, {})
    nodes = [
        helper.make_node("Reshape", ["images", "flat"], ["slices"]),
        helper.make_node("Conv", ["slices", "weights"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["maps", "unflat"], ["x"]),
        helper.make_node("Gather", ["x", "first"], ["key"], axis=1),
        helper.make_node(
            node,
            INPUTS.get(node, ["x", "x"] if attributes else ["x"]),
            ["y"],
            domain=domain,
            name=f"the_{node}",
            **attributes,
        ),
        helper.make_node("ReduceMean", ["y", "axes"], ["scores"], keepdims=0),
    ]
    shape = None if node == "PSRoIPool" else [batch, 3, 8]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", kind, [batch, 3, 3, 32, 32])],
        [helper.make_tensor_value_info("scores", kind, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save(model, path)
    return set_metadata(path, {"form": form})


def set_metadata(path, metadata):
    """Have a file say this, as an export does."""
    model = onnx.load(path)
    is_text = {key: isinstance(value, str) for key, value in metadata.items()}
    noted = {k: v if is_text[k] else json.dumps(v) for k, v in metadata.items()}
    del model.metadata_props[:]
    helper.set_model_props(model, {"format": export.FORMAT, **noted})
    onnx.save(model, path)
    return path
