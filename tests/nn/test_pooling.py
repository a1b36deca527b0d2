import copy

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
