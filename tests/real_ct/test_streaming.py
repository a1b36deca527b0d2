"""One pass of the backbone for each image gives what a pass for each sample gives."""

import numpy as np
import pytest

from lesionkit.data import prepare_sample
from lesionkit.data.slice_grid import SliceGrid
from lesionkit.inference import detect_sample
from lesionkit.inference.streaming import detect_grid
from lesionkit.models import load_detector

from .nodule import HELD_OUT, slice_at

pytestmark = pytest.mark.network


def test_streaming_equals_sample_by_sample(volume, weights):
    """On the slices around the nodule; and over the scan each image is computed once."""
    model = load_detector(weights)
    grid = SliceGrid(volume, model.config.preprocessing)
    assert len(grid) == 166  # 330 mm in steps of 2
    (nodule,) = grid.positions_of([slice_at(volume, HELD_OUT[1])])[:1]
    counted = []
    hook = model.backbone.register_forward_hook(lambda *call: counted.append(len(call[1][0])))
    found = dict(detect_grid(model, grid, range(len(grid))))
    hook.remove()
    assert sum(counted) == len(grid) + 2  # beyond each end all images are one
    compared = 0
    for position in range(nodule - 10, nodule + 11):
        images, transform = prepare_sample(
            grid.hu, position, volume.spacing[0], 2.0, grid.preprocessing,
            first=0, last=len(grid) - 1, crop=grid.crop,
        )  # fmt: skip
        expected = detect_sample(model, images, transform)
        assert len(expected["scores"]) == len(found[position]["scores"])
        np.testing.assert_allclose(found[position]["boxes"], expected["boxes"], atol=1e-3)
        np.testing.assert_allclose(found[position]["scores"], expected["scores"], atol=1e-5)
        compared += len(expected["scores"])
    assert compared > 100
