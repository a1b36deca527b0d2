"""The four ops, each beside its reference: the paper's own steps in plain torch."""

from lesionkit.ops.backends import available_backends, use_backend
from lesionkit.ops.contextual import contextual_attention, contextual_attention_reference
from lesionkit.ops.dual import dual_attention, dual_attention_reference
from lesionkit.ops.psroi import ps_roi_pool, ps_roi_pool_reference
from lesionkit.ops.spatial import spatial_attention, spatial_attention_reference

__all__ = [
    "available_backends",
    "contextual_attention",
    "contextual_attention_reference",
    "dual_attention",
    "dual_attention_reference",
    "ps_roi_pool",
    "ps_roi_pool_reference",
    "spatial_attention",
    "spatial_attention_reference",
    "use_backend",
]
