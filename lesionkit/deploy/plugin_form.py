"""The ops as nodes of the ONNX domain ``lesionkit``, which the TensorRT plugins carry out.

For export only. Names and attributes are those of the plugins' creators (csrc/tensorrt).
"""

import torch
from torch import Tensor

DOMAIN = "lesionkit"
DOMAIN_VERSION = 1


def contextual_attention(x: Tensor, logits: Tensor, temperature: float) -> Tensor:
    return _node("ContextualAttention", (x, logits), x.shape, temperature=temperature)


def spatial_attention(x: Tensor, logits: Tensor, temperature: float) -> Tensor:
    return _node("SpatialAttention", (x, logits), x.shape, temperature=temperature)


def dual_attention(
    x: Tensor,
    contextual_logits: Tensor,
    spatial_logits: Tensor,
    contextual_temperature: float,
    spatial_temperature: float,
) -> Tensor:
    return _node(
        "DualAttention",
        (x, contextual_logits, spatial_logits),
        x.shape,
        contextual_temperature=contextual_temperature,
        spatial_temperature=spatial_temperature,
    )


def ps_roi_pool(
    features: Tensor, rois: Tensor, output_size: int, spatial_scale: float, convention: str
) -> Tensor:
    channels = features.shape[1] // output_size**2
    return _node(
        "PSRoIPool",
        (features, rois),
        (rois.shape[0], channels, output_size, output_size),
        output_size=output_size,
        spatial_scale=spatial_scale,
        convention=convention,
    )


def _node(op_type: str, inputs: tuple[Tensor, ...], shape: tuple, **attributes) -> Tensor:
    # TensorRT before 10.10 reads namespace and version from these attributes alone.
    attributes |= {"plugin_namespace": DOMAIN, "plugin_version": str(DOMAIN_VERSION)}
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::{op_type}",
        inputs,
        attributes,
        dtype=inputs[0].dtype,
        shape=shape,
        version=DOMAIN_VERSION,
    )
