"""Boxes between the pixels of a slice and those of a sample."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lesionkit.data.preprocess import PixelTransform, Preprocessing, prepare_sample

boxes_st = st.lists(st.tuples(*[st.floats(-64, 2048, width=32)] * 4), max_size=5)
transform_st = st.builds(
    PixelTransform, st.floats(0.05, 20), st.integers(0, 1500), st.integers(0, 1500)
)


@given(boxes=boxes_st, transform=transform_st, dtype=st.sampled_from(["float32", "float64"]))
def test_boxes_return_within_a_thousandth_of_a_pixel(boxes, transform, dtype):
    array = np.array(boxes, dtype).reshape(-1, 4)
    array.flags.writeable = False
    for given_boxes in array, torch.from_numpy(array.copy()):
        network = transform.to_network(given_boxes)
        back = transform.to_original(network)
        assert type(back) is type(network) is type(given_boxes)
        assert back.dtype == network.dtype == given_boxes.dtype
        assert back.shape == given_boxes.shape
        np.testing.assert_array_less(abs(np.asarray(back) - array), 1e-3)


def test_box_transform_is_crop_then_scale():
    transform = PixelTransform(scale=0.5, left=10, top=20)
    boxes = [[30, 40, 50, 80]]
    for given_boxes in boxes, np.array(boxes), torch.tensor(boxes):
        assert transform.to_network(given_boxes).tolist() == [[10, 10, 20, 30]]
        assert transform.to_original(given_boxes).tolist() == [[70, 100, 110, 180]]
    with pytest.raises(ValueError, match=r"boxes.*\(4, 5\)"):
        transform.to_network(np.zeros((4, 5)))


def test_a_box_stays_on_its_pixels():
    hu = np.full((200, 160), -200, np.int16)
    hu[:30] = hu[:, :25] = -1000
    hu[100:140, 80:120] = 1000
    images, transform = prepare_sample(lambda _: hu, 0, 0.6, 1.0, Preprocessing())
    bright = np.argwhere((images[1, 1] > 38).numpy())
    (x1, y1), (x2, y2) = bright.min(0)[::-1], bright.max(0)[::-1]
    box = transform.to_network(np.array([80.0, 100, 119, 139]))
    assert np.abs(box - [x1, y1, x2, y2]).max() <= 1
