"""Layers: the attention modules of 3DCE_CS_Att and position-sensitive roi pooling."""

from lesionkit.nn.attention import ContextualAttention, DualAttention, SpatialAttention
from lesionkit.nn.pooling import PSRoIPool

__all__ = ["ContextualAttention", "DualAttention", "PSRoIPool", "SpatialAttention"]
