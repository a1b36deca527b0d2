"""Dual attention: contextual and spatial weights on the raw features (Tao et al. 2019, Eq. 5)."""

import torch
from torch import Tensor

from lesionkit.ops.arrays import call_with_cupy, is_cupy
from lesionkit.ops.backends import resolve
from lesionkit.ops.checks import check_attention, check_positive
from lesionkit.ops.contextual import contextual_attention_reference
from lesionkit.ops.registration import register_attention
from lesionkit.ops.spatial import spatial_attention_reference

_calls = register_attention("dual_attention", "dual", num_logits=2)


def dual_attention(
    x: Tensor,
    contextual_logits: Tensor,
    spatial_logits: Tensor,
    contextual_temperature: float = 2.0,
    spatial_temperature: float = 3.0,
) -> Tensor:
    """Contextual and spatial attention in one pass over memory.

    ``x * exp((c - max_m c) / T_c) * exp((s - max_hw s) / T_s)`` with the maxima over the M images
    and over each H x W plane. It serves the literal reading of Eq. 5, where the spatial logits are
    computed from the raw features; where they are computed from the refined ones, call
    `contextual_attention` and then `spatial_attention`. Bad numbers, ties and gradients as there.

    Args:
        x: features [B, M, D, H, W], float64, float32, float16 or bfloat16, of any layout. CuPy
            arrays are taken too, and give a CuPy array.
        contextual_logits, spatial_logits: [B, M, D, H, W], of any of these types.
        contextual_temperature, spatial_temperature: soften the weights, above 0.

    Returns:
        [B, M, D, H, W] in x's type, contiguous.

    Raises:
        TypeError, ValueError: an argument is of the wrong type, shape, device or value.
        RuntimeError: the chosen backend cannot run on x's device.
    """
    tensors = (x, contextual_logits, spatial_logits)
    if is_cupy(x):
        return call_with_cupy(dual_attention, *tensors, contextual_temperature, spatial_temperature)
    check_attention(x, contextual_logits=contextual_logits, spatial_logits=spatial_logits)
    check_positive("contextual_temperature", contextual_temperature)
    check_positive("spatial_temperature", spatial_temperature)
    temperatures = float(contextual_temperature), float(spatial_temperature)
    backend = resolve(*tensors)
    if backend == "reference":
        return dual_attention_reference(*tensors, *temperatures)
    return _calls[backend](*tensors, *temperatures)


def dual_attention_reference(
    x: Tensor,
    contextual_logits: Tensor,
    spatial_logits: Tensor,
    contextual_temperature: float = 2.0,
    spatial_temperature: float = 3.0,
) -> Tensor:
    """`dual_attention` as the paper writes it: both softmaxes, each divided by its maximum.

    Same arguments, result and errors, in plain torch; twice differentiable.
    """
    check_attention(x, contextual_logits=contextual_logits, spatial_logits=spatial_logits)
    check_positive("contextual_temperature", contextual_temperature)
    check_positive("spatial_temperature", spatial_temperature)
    wide = torch.float32
    for tensor in (x, contextual_logits, spatial_logits):
        wide = torch.promote_types(wide, tensor.dtype)
    refined = contextual_attention_reference(x.to(wide), contextual_logits, contextual_temperature)
    return spatial_attention_reference(refined, spatial_logits, spatial_temperature).to(x.dtype)
