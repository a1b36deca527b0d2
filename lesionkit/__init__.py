"""Attention and position-sensitive pooling for CT detectors, and the 3DCE_CS_Att detector.

Names load on first use, so that what needs no torch (``lesionkit --help``) starts without it. The
ops are registered with torch at once where torch is loaded already, else with the first of these
names that is used or with ``import lesionkit.ops``.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from lesionkit.version import __version__

if TYPE_CHECKING:
    from lesionkit import data, evaluation, models
    from lesionkit import deploy as deploy
    from lesionkit import inference as inference
    from lesionkit import nn as nn
    from lesionkit import ops as ops
    from lesionkit import training as training
    from lesionkit import visualize as visualize
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

_SUBPACKAGES = (
    "data", "deploy", "evaluation", "inference", "models", "nn", "ops", "training", "visualize"
)  # fmt: skip


def __getattr__(name: str) -> object:
    if name in _SUBPACKAGES:
        return import_module(f"lesionkit.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'lesionkit' has no attribute {name!r}")
    home = "lesionkit.nn" if name[0].isupper() else "lesionkit.ops"
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES})


if "torch" in sys.modules:
    import_module("lesionkit.ops")
