"""Anchors of 3DCE's region proposal network (``rcnn/processing/generate_anchor.py``)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def base_anchors(base_size: int, ratios: Sequence[float], scales: Sequence[float]) -> Tensor:
    """The anchors of the first cell: half-open boxes [len(ratios) * len(scales), 4], float32.

    Ratios are height / width. Sides are rounded to whole pixels before they are scaled, and all
    anchors share the centre of a ``base_size`` square at the origin; the ratio changes slowest.
    """
    boxes = []
    centre = base_size / 2
    for ratio in ratios:
        width = round(math.sqrt(base_size * base_size / ratio))
        height = round(width * ratio)
        for scale in scales:
            half_width, half_height = width * scale / 2, height * scale / 2
            boxes.append(
                (
                    centre - half_width,
                    centre - half_height,
                    centre + half_width,
                    centre + half_height,
                )
            )
    return torch.tensor(boxes, dtype=torch.float32)


def grid_anchors(base: Tensor, rows: int, columns: int, stride: int) -> Tensor:
    """``base`` anchors [A, 4] at each cell of a grid: boxes [rows * columns * A, 4].

    Row slowest, then column, then anchor: the order of a [rows, columns, A] score map.
    """
    y = torch.arange(rows, device=base.device, dtype=base.dtype) * stride
    x = torch.arange(columns, device=base.device, dtype=base.dtype) * stride
    y, x = torch.meshgrid(y, x, indexing="ij")
    offsets = torch.stack((x, y, x, y), dim=-1)
    return (offsets[:, :, None] + base).reshape(-1, 4)
