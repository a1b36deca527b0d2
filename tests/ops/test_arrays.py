"""CuPy arrays need a GPU; these tests stand a module of that name in for it, on NumPy's memory."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

import lesionkit
from lesionkit.ops.arrays import is_cupy


@pytest.fixture
def cupy(monkeypatch):
    module = ModuleType("cupy")
    module.ndarray = type("ndarray", (np.ndarray,), {"__module__": "cupy"})
    module.from_dlpack = lambda tensor: np.from_dlpack(tensor).view(module.ndarray)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def arrays(cupy, *shape):
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return tensor, tensor.numpy().view(cupy.ndarray)


@pytest.mark.parametrize("name, inputs", [("contextual", 2), ("spatial", 2), ("dual", 3)])
def test_attention_gives_an_array_back(cupy, name, inputs):
    op = getattr(lesionkit, f"{name}_attention")
    tensor, array = arrays(cupy, 1, 3, 2, 4, 5)
    result = op(*[array] * inputs, 2.5)
    assert type(result) is cupy.ndarray
    assert np.array_equal(result, op(*[tensor] * inputs, 2.5))


def test_pooling_takes_arrays_and_lists_of_them(cupy):
    tensor, array = arrays(cupy, 1, 8, 6, 6)
    boxes = np.array([[0, 0, 16, 16]], np.float32).view(cupy.ndarray)
    expected = lesionkit.ps_roi_pool(tensor, [torch.tensor([[0.0, 0, 16, 16]])], 2)
    result = lesionkit.ps_roi_pool(array, [boxes], output_size=2)
    assert type(result) is cupy.ndarray
    assert np.array_equal(result, expected)


def test_a_mixture_is_an_error_that_names_the_argument(cupy):
    tensor, array = arrays(cupy, 1, 3, 2, 4, 5)
    with pytest.raises(TypeError, match="logits must be a tensor, got ndarray"):
        lesionkit.contextual_attention(tensor, array)
    with pytest.raises(TypeError, match="logits must be a tensor, got list"):
        lesionkit.contextual_attention(array, [1.0])


def test_other_arrays_are_refused():
    assert not is_cupy(np.zeros(3))
    with pytest.raises(TypeError, match="x must be a tensor, got ndarray"):
        lesionkit.contextual_attention(np.zeros((1, 1, 1, 1, 1)), np.zeros((1, 1, 1, 1, 1)))
