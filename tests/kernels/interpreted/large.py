"""The last program of launches over more than 2**31 elements reads and writes where it should.

The tensors are virtual memory: only the pages that one program touches become real.
"""

import pytest
import torch
from lesionkit.kernels.contextual import triton as contextual
from lesionkit.kernels.dual import triton as dual
from lesionkit.kernels.psroi import triton as psroi
from lesionkit.kernels.spatial import triton as spatial
from triton.runtime import interpreter

from lesionkit import (
    contextual_attention_reference,
    dual_attention_reference,
    ops,
    spatial_attention_reference,
)

BEYOND = 2**31


@pytest.fixture(autouse=True)
def only_the_last_program(monkeypatch):
    """Every launch runs the last program of its grid alone."""
    builder, launch = interpreter.interpreter_builder, interpreter.GridExecutor

    def launch_last(self, *args, **kwargs):
        grid, self.grid = self.grid, (1, 1, 1)
        grid = (*grid, *(1,) * (3 - len(grid)))
        monkeypatch.setattr(builder, "set_grid_dim", lambda *_: setattr(builder, "grid_dim", grid))
        last = tuple(size - 1 for size in grid)
        monkeypatch.setattr(builder, "set_grid_idx", lambda *_: setattr(builder, "grid_idx", last))
        run(self, *args, **kwargs)

    run = launch.__call__
    monkeypatch.setattr(launch, "__call__", launch_last)
    # It would copy the whole tensors onto themselves.
    monkeypatch.setattr(launch, "_restore_args_dev", lambda *_: None)


def virtual(shape, part, values=None):
    """A float16 tensor of `shape` that holds random values at the index `part`."""
    tensor = torch.empty(shape, dtype=torch.float16)
    assert tensor.numel() > BEYOND
    tensor[part] = torch.randn(tensor[part].shape).half() if values is None else values
    return tensor


# One tile of 1024 columns and 7 more, the last plane, the last planes of all images.
@pytest.mark.parametrize(
    "module, reference, num_logits, shape, last",
    [
        (contextual, contextual_attention_reference, 1, (1, 3, 720_000 * 1024 + 7, 1, 1), 7),
        (spatial, spatial_attention_reference, 1, (1, 1, 2_110_000, 1, 1021), 1),
        (dual, dual_attention_reference, 2, (1, 3, 1_440_000, 2, 499), 1),
    ],
)
def test_attention(module, reference, num_logits, shape, last):
    part = (slice(None), slice(None), slice(-last, None))
    tensors = [virtual(shape, part) for _ in range(1 + num_logits)]
    temperatures = [2.0] * num_logits
    y = module.forward(*tensors, *temperatures)
    small = [tensor[part].float().requires_grad_() for tensor in tensors]
    expected = reference(*small, *temperatures)
    torch.testing.assert_close(y[part].float(), expected, rtol=1e-3, atol=1e-4)
    del y
    grad = virtual(shape, part)
    gradients = module.backward(grad, *tensors, *temperatures)
    oracle = torch.autograd.grad(expected, small, grad[part].float())
    for result, exact in zip(gradients, oracle, strict=True):
        torch.testing.assert_close(result[part].float(), exact, rtol=1e-3, atol=1e-3)


def test_psroi():
    shape, rois = (2, 1_090_000, 31, 32), torch.tensor([[1.0, 20, 16, 90, 300]])
    part = (1, slice(-psroi.TILE_CHANNELS, None))  # less than the last block of the forward
    features = virtual(shape, part)
    pooled = psroi.forward(features, rois, 1, 1 / 8, "rfcn")
    small = features[part][None].float().requires_grad_()
    rois_of_one = rois * torch.tensor([0.0, 1, 1, 1, 1])
    expected = ops.ps_roi_pool_reference(small, rois_of_one, 1, 1 / 8)
    actual = pooled[0, part[1]].float()
    torch.testing.assert_close(actual, expected[0], rtol=1e-3, atol=1e-3)
    grad = torch.randn(1, shape[1], 1, 1).half()
    gradient = psroi.backward(grad, rois, *shape[:1], *shape[2:], 1 / 8, "rfcn")
    oracle = torch.autograd.grad(expected, small, grad[:, part[1]].float())[0][0]
    tile = psroi.backward_tile(shape[1], 31 * 32)[1]
    cells = 31 * 32 - (31 * 32 - 1) // tile * tile
    actual = gradient[part].flatten(1)[:, -cells:].float()
    assert oracle.flatten(1)[:, -cells:].any()
    torch.testing.assert_close(actual, oracle.flatten(1)[:, -cells:], rtol=1e-3, atol=1e-4)


def test_psroi_of_as_many_channels_as_an_int_holds():
    """Channels past the end, which the last programs pass over, are more than that."""
    bins, outputs = 3, (2**31 - 1) // 9
    features = torch.empty(1, outputs * bins**2, 1, 1, dtype=torch.float16)
    rois = torch.tensor([[0.0, 0, 0, 9, 9]])
    # The last program of the forward has no channel at all.
    assert psroi.forward(features, rois, bins, 1 / 8, "rfcn").shape == (1, outputs, bins, bins)
    grad = torch.empty(1, outputs, bins, bins, dtype=torch.float16)
    grad[0, -psroi.TILE_CHANNELS :] = 2
    gradient = psroi.backward(grad, rois, 1, 1, 1, 1 / 8, "rfcn")
    # The last program's bin, of the output channels of its tile.
    first = (outputs - 1) // psroi.TILE_CHANNELS * psroi.TILE_CHANNELS
    assert outputs - first < psroi.TILE_CHANNELS
    own = gradient[0, first * bins**2 :].view(-1, bins**2)
    assert (own[:, -1] == 2).all()
