"""What a plugin's enqueue computes, against the references of the ops, on any device."""

import torch
from torch import Tensor

import lesionkit
from tests.csrc.tensorrt_tools import Library, Plugin

# Vectors and tails, images that kernels are unrolled for and others, and none at all.
SHAPES = [(2, 3, 4, 8, 8), (1, 5, 3, 7, 9), (2, 2, 1, 5, 5), (1, 1, 2, 33, 40), (0, 3, 4, 8, 8)]
POOLINGS = [
    (2, 10, 7, 21, 17, 40, 0.125, "rfcn"),
    (1, 3, 3, 9, 9, 5, 0.3, "torchvision"),
    (2, 2, 2, 6, 8, 0, 0.125, "rfcn"),
]
ATTENTION = {
    "ContextualAttention": (lesionkit.contextual_attention_reference, ["temperature"]),
    "SpatialAttention": (lesionkit.spatial_attention_reference, ["temperature"]),
    "DualAttention": (
        lesionkit.dual_attention_reference,
        ["contextual_temperature", "spatial_temperature"],
    ),
}
Case = tuple[Plugin, list[Tensor], Tensor]  # plugin, inputs, what the output should be


def attention_case(library: Library, name: str, shape: tuple[int, ...], dtype, device) -> Case:
    reference, fields = ATTENTION[name]
    temperatures = [0.75, 1.5][: len(fields)]
    plugin = library.create(name, **dict(zip(fields, temperatures, strict=True)))
    inputs = [torch.randn(shape).to(dtype) for _ in range(1 + len(fields))]
    expected = reference(*(tensor.double() for tensor in inputs), *temperatures)
    return plugin, [tensor.to(device) for tensor in inputs], expected


def pooling_case(library: Library, pooling: tuple, dtype, device) -> Case:
    batch, channels, bins, height, width, count, scale, convention = pooling
    plugin = library.create(
        "PSRoIPool", output_size=bins, spatial_scale=scale, convention=convention
    )
    features = torch.randn(batch, channels * bins**2, height, width).to(dtype)
    corners = torch.rand(count, 2, 2).sort(1).values * torch.tensor([width, height]) / scale
    rois = torch.cat([torch.randint(batch, (count, 1)), corners.flatten(1)], 1)
    expected = lesionkit.ps_roi_pool_reference(features.double(), rois, bins, scale, convention)
    return plugin, [features.to(device), rois.to(device)], expected


def result_of(case: Case, stream: int = 0) -> Tensor:
    plugin, inputs, expected = case
    output = torch.full_like(expected, torch.nan, dtype=inputs[0].dtype, device=inputs[0].device)
    error = plugin.enqueue(inputs, output, stream)
    assert error == 0, plugin.library.log()
    return output
