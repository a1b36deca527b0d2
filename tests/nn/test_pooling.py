import copy

import pytest
import torch

from lesionkit.nn import PSRoIPool
from lesionkit.ops import ps_roi_pool_reference


def test_layer_pools_with_its_settings():
    features = torch.randn(2, 2 * 9, 8, 10)
    rois = [torch.tensor([[3.0, 5, 20, 30]]), torch.tensor([[0.0, 0, 39, 31], [8, 8, 12, 12]])]
    for convention in ("rfcn", "torchvision"):
        layer = PSRoIPool(3, 0.25, convention)
        expected = ps_roi_pool_reference(features, rois, 3, 0.25, convention)
        assert expected.shape == (3, 2, 3, 3)
        torch.testing.assert_close(layer(features, rois), expected)
        torch.testing.assert_close(copy.deepcopy(layer)(features, rois), expected)


def test_repr_shows_the_settings():
    expected = "PSRoIPool(output_size=3, spatial_scale=0.25, convention='rfcn')"
    assert repr(PSRoIPool(3, 0.25)) == expected


@pytest.mark.parametrize(
    "settings,error,message",
    [
        ((0, 0.25), ValueError, "output_size must be 1 to 32768, got 0"),
        ((True, 0.25), TypeError, "output_size must be an int, got True"),
        ((2.0, 0.25), TypeError, "output_size must be an int, got 2.0"),
        ((3, 0.0), ValueError, "spatial_scale .* got 0.0"),
        ((3, float("nan")), ValueError, "spatial_scale .* got nan"),
        ((3, float("inf")), ValueError, "spatial_scale .* got inf"),
        ((3, "1/8"), TypeError, "spatial_scale .* got '1/8'"),
        ((3, 0.25, "mxnet"), ValueError, "convention must be one of .* got 'mxnet'"),
    ],
)
def test_bad_settings(settings, error, message):
    with pytest.raises(error, match=message):
        PSRoIPool(*settings)
