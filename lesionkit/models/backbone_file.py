"""The 13 convolutions of a VGG16 from somebody's ONNX or safetensors file."""

import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lesionkit.errors import InputError

CHANNELS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
_NUMBERED = re.compile(r"(?:(?:features|backbone)\.)?(\d+)\.(weight|bias)")
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # RGB in 0..1: mean, deviation
_CAFFE_MEAN = (123.68, 116.779, 103.939)  # RGB in 0..255; the weights want BGR


def read_vgg16(path: str | os.PathLike, expected_input: str) -> list[Tensor]:
    """Weight [out, in, 3, 3] and bias [out] of conv1_1 to conv5_3, in turn, for RGB input.

    An ONNX file has its convolutions in the order of the graph; what comes after the 13th is left.
    A safetensors file names them by number, as torchvision ("features.0.weight") or this package
    do.

    Args:
        path: the file.
        expected_input: "torchvision" or "caffe", see :func:`input_range`; the latter's BGR kernels
            are turned round.

    Raises:
        InputError: no such file, a damaged one, or not a VGG16; the message says what differs.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give an .onnx or .safetensors file of a VGG16")
    read = _read_onnx if path.suffix == ".onnx" else _read_safetensors
    tensors = [torch.from_numpy(np.array(value, np.float32)) for value in read(path)]
    expected = [
        shape for before, after in pairwise(CHANNELS) for shape in ((after, before, 3, 3), (after,))
    ]
    found = [tuple(tensor.shape) for tensor in tensors]
    if found != expected:
        wrong = next(i for i, shape in enumerate(expected) if found[i : i + 1] != [shape])
        part = f"{('weight', 'bias')[wrong % 2]} of convolution {wrong // 2 + 1}"
        has = found[wrong] if wrong < len(found) else "missing"
        raise InputError(f"{path}: not a VGG16: the {part} is {has}, expected {expected[wrong]}")
    if not all(tensor.isfinite().all() for tensor in tensors):
        raise InputError(f"{path}: holds values that are not finite; take another file")
    if expected_input == "caffe":
        tensors[0] = tensors[0].flip(1)
    return tensors


def input_range(expected_input: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation that RGB pixels in 0..1 are normalised by for such weights.

    "torchvision": as its models but IMAGENET1K_FEATURES; "caffe": minus a mean, times 255.
    """
    if expected_input == "torchvision":
        return _IMAGENET
    return tuple(value / 255 for value in _CAFFE_MEAN), (1 / 255,) * 3


def _read_safetensors(path: Path) -> list[np.ndarray]:
    try:
        with safe_open(path, framework="pt") as file:
            names = {}
            for name in file.keys():  # noqa: SIM118
                if match := _NUMBERED.fullmatch(name):
                    names[int(match[1]), match[2] == "bias"] = name
            return [file.get_tensor(names[key]).float().numpy() for key in sorted(names)]
    except SafetensorError as error:
        raise InputError(f"{path}: damaged or not a safetensors file ({error})") from None


def _read_onnx(path: Path) -> list[np.ndarray]:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ModuleNotFoundError as error:
        raise InputError(
            f"{path}: reading it needs the package {error.name}, which is not installed; "
            'pip install "lesionkit[deploy]", or give a .safetensors file'
        ) from None
    try:
        # Data in other files is not followed: a path in a file leads anywhere.
        graph = onnx.load(path, load_external_data=False).graph
    except DecodeError as error:
        raise InputError(f"{path}: damaged or not an ONNX file ({error})") from None
    values = {}
    for initializer in graph.initializer:
        if initializer.data_location == onnx.TensorProto.EXTERNAL:
            raise InputError(f"{path}: its weights are in another file; save them in this one")
        values[initializer.name] = initializer
    for node in graph.node:
        if node.op_type == "Constant":
            values.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    tensors: list[np.ndarray] = []
    for node in graph.node:
        if node.op_type == "Conv" and len(tensors) < 2 * (len(CHANNELS) - 1):
            found = _parameters(path, graph, node, values)
            tensors += [onnx.numpy_helper.to_array(value) for value in found]
            tensors[-2:] = _output_first(tensors[-2]), tensors[-1].reshape(-1)
    return tensors


def _parameters(path: Path, graph: Any, node: Any, values: dict[str, Any]) -> Iterator[Any]:
    """The initializers of weight and bias; some exporters add the bias in a node of its own."""
    names = list(node.input[1:3])
    if len(names) < 2:
        added = [n for n in graph.node if n.op_type == "Add" and node.output[0] in n.input]
        names += [name for n in added for name in n.input if name in values]
    for name in names[:2]:
        if name not in values:
            raise InputError(
                f"{path}: the weights of convolution {node.name!r} are computed, not stored; "
                "export the model with its constants folded"
            )
        yield values[name]
    if len(names) < 2:
        raise InputError(f"{path}: not a VGG16: convolution {node.name!r} has no bias")


def _output_first(kernel: np.ndarray) -> np.ndarray:
    """[out, in, h, w], also from TensorFlow's [h, w, in, out]."""
    is_tensorflow = kernel.ndim == 4 and kernel.shape[:2] == (3, 3) != kernel.shape[2:]
    return kernel.transpose(3, 2, 0, 1) if is_tensorflow else kernel
