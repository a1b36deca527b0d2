"""Attention and position-sensitive pooling for CT detectors, and the 3DCE_CS_Att detector."""

from importlib import import_module

from lesionkit.nn import ContextualAttention, DualAttention, PSRoIPool, SpatialAttention
from lesionkit.ops import (
    available_backends,
    contextual_attention,
    contextual_attention_reference,
    dual_attention,
    dual_attention_reference,
    ps_roi_pool,
    ps_roi_pool_reference,
    spatial_attention,
    spatial_attention_reference,
    use_backend,
)
from lesionkit.version import __version__

__all__ = [
    "ContextualAttention",
    "DualAttention",
    "PSRoIPool",
    "SpatialAttention",
    "__version__",
    "available_backends",
    "contextual_attention",
    "contextual_attention_reference",
    "data",
    "dual_attention",
    "dual_attention_reference",
    "evaluation",
    "models",
    "ps_roi_pool",
    "ps_roi_pool_reference",
    "spatial_attention",
    "spatial_attention_reference",
    "use_backend",
]

_LAZY = ("data", "evaluation", "inference", "models", "training", "visualize")


def __getattr__(name: str):
    # Subpackages load on first use: `import lesionkit` needs torch and numpy only.
    if name in _LAZY:
        return import_module(f"lesionkit.{name}")
    raise AttributeError(f"module 'lesionkit' has no attribute {name!r}")
