"""What PSROI pooling refuses, in Python and in the C++ op that can be called without it."""

import numpy as np
import pytest
import torch

from lesionkit.ops import contextual_attention, ps_roi_pool, ps_roi_pool_reference

FEATURES, ROIS = torch.zeros(2, 8, 5, 6), torch.zeros(3, 5)


@pytest.mark.parametrize("function", [ps_roi_pool, ps_roi_pool_reference])
@pytest.mark.parametrize(
    "error, match, changed",
    [
        (TypeError, "features must be a tensor, got ndarray", {"features": FEATURES.numpy()}),
        (TypeError, "features must be of type .*int64", {"features": FEATURES.long()}),
        (TypeError, "features must be of type .*complex64", {"features": FEATURES.cfloat()}),
        (ValueError, r"features must be \[B, C.*\(8, 5, 6\)", {"features": FEATURES[0]}),
        (TypeError, "output_size must be an int, got 2.0", {"output_size": 2.0}),
        (TypeError, "output_size must be an int, got True", {"output_size": True}),
        (ValueError, "output_size .* 8 channels of features, got 3", {"output_size": 3}),
        (ValueError, "output_size must be 1 to 32768, got 0", {"output_size": 0}),
        (ValueError, "output_size must be 1 to 32768, got -1", {"output_size": -1}),
        (ValueError, "output_size must be 1 to 32768, got 50000", {"output_size": 50000}),
        (TypeError, r"features must be dense.*to_dense\(\)", {"features": FEATURES.to_sparse()}),
        (TypeError, "spatial_scale .*'1/8'", {"spatial_scale": "1/8"}),
        (ValueError, "spatial_scale must be finite.*got nan", {"spatial_scale": float("nan")}),
        (ValueError, "spatial_scale must be finite.*got inf", {"spatial_scale": float("inf")}),
        (ValueError, "spatial_scale must be .*above 0, got 0", {"spatial_scale": 0}),
        (ValueError, "spatial_scale must be .*above 0, got -1", {"spatial_scale": -1.0}),
        (ValueError, "convention .*rfcn, torchvision, got 'mxnet'", {"convention": "mxnet"}),
        (TypeError, "rois must be a tensor, got ndarray", {"rois": ROIS.numpy()}),
        (TypeError, "rois must be of type .*int32", {"rois": ROIS.int()}),
        (ValueError, r"rois must be \[K, 5\], got shape \(3, 4\)", {"rois": ROIS[:, 1:]}),
        (ValueError, r"rois must be \[K, 5\], got shape \(5,\)", {"rois": ROIS[0]}),
        (ValueError, "rois must be on cpu.*got meta", {"rois": ROIS.to("meta")}),
        (ValueError, "rois must have one tensor per sample.* 2, got 1", {"rois": [ROIS[:, 1:]]}),
        (ValueError, r"rois\[1\] must be \[K, 4\].*\(3, 5\)", {"rois": [ROIS[:, 1:], ROIS]}),
        (TypeError, r"rois\[0\] must be of type .*int64", {"rois": [ROIS[:, 1:].long()] * 2}),
        (TypeError, r"rois\[0\] must be a tensor, got list", {"rois": [[[1, 2, 3, 4]]] * 2}),
        (ValueError, r"rois\[0\] must be on cpu", {"rois": [ROIS[:, 1:].to("meta")] * 2}),
    ],
)  # fmt: skip
def test_bad_argument(function, error, match, changed):
    with pytest.raises(error, match=match):
        function(**{"features": FEATURES, "rois": ROIS, "output_size": 2, **changed})


@pytest.mark.parametrize("arguments", [
    (FEATURES[0], ROIS, 2, 0.5, "rfcn"),
    (FEATURES.int(), ROIS, 2, 0.5, "rfcn"),
    (FEATURES, ROIS[:, 1:], 2, 0.5, "rfcn"),
    (FEATURES, ROIS[0], 2, 0.5, "rfcn"),
    (FEATURES, ROIS.half(), 2, 0.5, "rfcn"),
    (FEATURES, ROIS, 3, 0.5, "rfcn"),
    (FEATURES, ROIS, 0, 0.5, "rfcn"),
    (FEATURES, ROIS, -2, 0.5, "rfcn"),
    (FEATURES, ROIS, 2**32 + 2, 0.5, "rfcn"),
    (FEATURES, ROIS, 2, 0.5, "mxnet"),
])  # fmt: skip
def test_forward_op_defends_itself(arguments):
    with pytest.raises(RuntimeError):
        torch.ops.lesionkit.ps_roi_pool(*arguments)


@pytest.mark.parametrize("arguments", [
    (torch.zeros(2, 2, 2, 2), ROIS, 2, 5, 6, 0.5, "rfcn"),
    (torch.zeros(3, 2, 2, 3), ROIS, 2, 5, 6, 0.5, "rfcn"),
    (torch.zeros(3, 8), ROIS, 2, 5, 6, 0.5, "rfcn"),
    (torch.zeros(3, 2, 2, 2).int(), ROIS, 2, 5, 6, 0.5, "rfcn"),
    (torch.zeros(3, 2, 2, 2), ROIS[:, 1:], 2, 5, 6, 0.5, "rfcn"),
    (torch.zeros(3, 2, 2, 2), ROIS.bfloat16(), 2, 5, 6, 0.5, "rfcn"),
    (torch.zeros(3, 2, 2, 2), ROIS, -1, 5, 6, 0.5, "rfcn"),
    (torch.zeros(3, 2, 2, 2), ROIS, 2, -5, 6, 0.5, "rfcn"),
    (torch.zeros(3, 2, 2, 2), ROIS, 2, 5, 2**31, 0.5, "rfcn"),
    (torch.zeros(3, 2, 2, 2), ROIS, 2, 5, 6, 0.5, ""),
])  # fmt: skip
def test_backward_op_defends_itself(arguments):
    with pytest.raises(RuntimeError):
        torch.ops.lesionkit.ps_roi_pool_backward(*arguments)


def test_numbers_of_numpy_are_numbers():
    features, rois = torch.rand(1, 8, 5, 6), torch.tensor([[0.0, 0, 0, 4, 4]])
    expected = ps_roi_pool(features, rois, 2, 0.5)
    assert torch.equal(ps_roi_pool(features, rois, np.int64(2), np.float32(0.5)), expected)
    x = torch.rand(1, 3, 2, 2, 2)
    expected = contextual_attention(x, x, 2.0)
    assert torch.equal(contextual_attention(x, x, np.float32(2)), expected)
