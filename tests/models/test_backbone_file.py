"""VGG16 convolutions from files."""

import sys
from itertools import pairwise

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from lesionkit.errors import InputError
from lesionkit.models import backbone_file
from lesionkit.models.backbone import VGG16Backbone
from lesionkit.models.backbone_file import CHANNELS, read_vgg16

CAFFE_BGR_MEAN = torch.tensor([103.939, 116.779, 123.68])


def vgg16(seed=0):
    """A VGG16 that is none of ours, and its 26 tensors."""
    torch.manual_seed(seed)
    model = VGG16Backbone()
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, torch.nn.Conv2d):
                layer.bias.normal_()
    return model, [parameter.detach() for parameter in model.parameters()]


def save_onnx(path, tensors, form="conv"):
    """Convolutions as exporters write them; ``form`` is that of the first one."""
    nodes, initializers = [], []

    def constant(name, value):
        if form == "constants":
            value = numpy_helper.from_array(value)
            nodes.append(helper.make_node("Constant", [], [name], value=value))
        else:
            initializers.append(numpy_helper.from_array(value, name))

    for index, (weight, bias) in enumerate(zip(tensors[::2], tensors[1::2], strict=True)):
        weight, bias = weight.numpy(), bias.numpy()
        if form == "tensorflow":
            weight = np.ascontiguousarray(weight.transpose(2, 3, 1, 0))
        constant(f"w{index}", weight)
        inputs, output = [f"x{index}", f"w{index}"], f"x{index + 1}"
        if form == "added":
            constant(f"b{index}", bias.reshape(-1, 1, 1))
            nodes.append(helper.make_node("Conv", inputs, [f"c{index}"], name=f"conv{index}"))
            nodes.append(helper.make_node("Add", [f"c{index}", f"b{index}"], [output]))
        else:
            constant(f"b{index}", bias)
            nodes.append(helper.make_node("Conv", [*inputs, f"b{index}"], [output], f"conv{index}"))
    # A head of its own, which is not wanted.
    initializers.append(numpy_helper.from_array(np.zeros((2, 512, 1, 1), np.float32), "head"))
    nodes.append(helper.make_node("Conv", [f"x{len(tensors) // 2}", "head"], ["y"]))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x0", "y")]
    graph = helper.make_graph(nodes, "vgg", values[:1], values[1:], initializers)
    onnx.save(helper.make_model(graph), path)


@pytest.fixture
def narrow(monkeypatch):
    """The 26 tensors of a VGG16 with few channels."""
    channels = tuple(3 if count == 3 else count // 32 for count in CHANNELS)
    monkeypatch.setattr(backbone_file, "CHANNELS", channels)
    torch.manual_seed(0)
    pairs = [(torch.randn(b, a, 3, 3), torch.randn(b)) for a, b in pairwise(channels)]
    return [tensor for pair in pairs for tensor in pair]


@pytest.mark.parametrize("form", ["conv", "constants", "tensorflow", "added"])
def test_forms_of_onnx(tmp_path, narrow, form):
    save_onnx(tmp_path / "a.onnx", narrow, form)
    for found, tensor in zip(read_vgg16(tmp_path / "a.onnx", "torchvision"), narrow, strict=True):
        assert torch.equal(found, tensor)


@pytest.mark.parametrize("prefix", ["features.", "backbone.", ""])
def test_names_in_safetensors(tmp_path, narrow, prefix):
    numbers = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]  # "10" sorts before "2"
    names = [f"{prefix}{number}.{part}" for number in numbers for part in ("weight", "bias")]
    tensors = dict(zip(names, narrow, strict=True)) | {"classifier.0.weight": torch.zeros(3)}
    save_file(tensors, tmp_path / "a.safetensors")
    for found, tensor in zip(
        read_vgg16(tmp_path / "a.safetensors", "torchvision"), narrow, strict=True
    ):
        assert torch.equal(found, tensor)


def test_features_are_those_of_the_weights_own_preprocessing(tmp_path):
    """Far from the padding, whose zeros mean another grey than before; on Keras' kind of file."""
    model, tensors = vgg16()
    save_onnx(tmp_path / "a.onnx", tensors, "tensorflow")
    loaded = VGG16Backbone()
    loaded.load_file(str(tmp_path / "a.onnx"), "caffe", pixel_mean=50.0)
    rgb = torch.rand(1, 3, 152, 152) * 255
    with torch.no_grad():
        expected = model(rgb.flip(1) - CAFFE_BGR_MEAN.view(3, 1, 1))[..., 9, 9]
        found = loaded(rgb - 50)[..., 9, 9]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert (found > 0).sum() > 50


def test_torchvision_input(tmp_path, narrow):
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    save_onnx(tmp_path / "a.onnx", narrow)
    first = torch.nn.Conv2d(3, len(narrow[1]), 3)
    rgb = torch.rand(1, 3, 5, 5) * 255
    loaded = VGG16Backbone()
    del loaded[1:]
    loaded[0] = first
    weights = read_vgg16(tmp_path / "a.onnx", "torchvision")[:2]
    loaded._take(weights, 50.0, *backbone_file.input_range("torchvision"))
    expected = torch.nn.functional.conv2d((rgb / 255 - mean) / std, *weights)
    torch.testing.assert_close(loaded(rgb - 50), expected, rtol=1e-4, atol=1e-4)


def spoil(tensors, how):
    if how == "fewer":
        return tensors[:-2]
    tensors = [tensor.clone() for tensor in tensors]
    if how == "wider":
        tensors[4] = torch.cat((tensors[4], tensors[4]))
    else:
        tensors[7][0] = torch.nan
    return tensors


@pytest.mark.parametrize(
    "how,message",
    [
        ("fewer", "not a VGG16: convolution '' has no bias"),
        ("wider", r"not a VGG16: the weight of convolution 3 is \(8, 2, 3, 3\), expected \(4, 2"),
        ("nan", "not finite"),
    ],
)
def test_other_networks_are_refused(tmp_path, narrow, how, message):
    save_onnx(tmp_path / "a.onnx", spoil(narrow, how))
    with pytest.raises(InputError, match=message):
        read_vgg16(tmp_path / "a.onnx", "torchvision")


def test_files_that_are_no_weights(tmp_path, narrow):
    for name in ("a.onnx", "a.safetensors"):
        with pytest.raises(InputError, match=f"{name}: no such file"):
            read_vgg16(tmp_path / name, "caffe")
        (tmp_path / name).write_bytes(b"\x08\xff\xff garbage" * 9)
        with pytest.raises(InputError, match=f"{name}: damaged or not"):
            read_vgg16(tmp_path / name, "caffe")
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.onnx: "):
        read_vgg16(tmp_path / "a.onnx", "caffe")


def test_weights_elsewhere_are_not_followed(tmp_path, narrow):
    save_onnx(tmp_path / "a.onnx", narrow)
    model = onnx.load(tmp_path / "a.onnx")
    onnx.save(model, tmp_path / "b.onnx", save_as_external_data=True, size_threshold=0)
    with pytest.raises(InputError, match="in another file"):
        read_vgg16(tmp_path / "b.onnx", "caffe")


def test_computed_weights(tmp_path, narrow):
    save_onnx(tmp_path / "a.onnx", narrow)
    model = onnx.load(tmp_path / "a.onnx")
    del model.graph.initializer[0]
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(InputError, match="'conv0' are computed, not stored"):
        read_vgg16(tmp_path / "a.onnx", "caffe")


def test_without_onnx(tmp_path, narrow, monkeypatch):
    save_onnx(tmp_path / "a.onnx", narrow)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"needs the package onnx.*lesionkit\[deploy\]"):
        read_vgg16(tmp_path / "a.onnx", "caffe")
