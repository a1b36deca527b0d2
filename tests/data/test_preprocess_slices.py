"""Samples from small volumes whose slices were worked out by hand."""

import numpy as np
import pytest

from lesionkit.data.preprocess import Preprocessing, prepare_sample

# Slice n of 0..8 has grey value n². Slices that are missing are replaced by the next one towards
# the key slice, each neighbour of a position for itself.
# Below: the four slices before the key slice and the four after it, nearest first.
MIDDLE, START, END, GAPS = "key 4", "key 1", "key 7", "key 4, without 2 and 6"
EXACT = {
    # 2 mm are 2 slices, so no two neighbours are blended.
    (1.0, MIDDLE): ([4, 0, 0, 0], [36, 64, 64, 64]),
    (1.0, START): ([0, 0, 0, 0], [9, 25, 49, 64]),
    (1.0, END): ([25, 9, 1, 0], [64, 64, 64, 64]),
    (1.0, GAPS): ([9, 0, 0, 0], [25, 64, 64, 64]),
    (2.0, MIDDLE): ([9, 4, 1, 0], [25, 36, 49, 64]),
    (2.0, START): ([0, 0, 0, 0], [4, 9, 16, 25]),
    (2.0, END): ([36, 25, 16, 9], [64, 64, 64, 64]),
    (2.0, GAPS): ([9, 9, 1, 0], [25, 25, 49, 64]),
    # .8 1.6 2.4 3.2 slices from the key: 25 - 16 = 9, so .8 slices after 4 is 16 + .8 * 9 = 23.2
    (2.5, MIDDLE): ([10.4, 6, 2.8, 0.8], [23.2, 31.6, 41.2, 52]),
    (2.5, START): ([0.2, 0, 0, 0], [3.4, 7, 11.8, 17.8]),
    (2.5, END): ([38.6, 29.4, 21.4, 14.6], [61, 64, 64, 64]),
    (2.5, GAPS): ([10.4, 9, 5.8, 0.8], [23.2, 25, 34.6, 52]),
    # 2/3 4/3 2 8/3
    (3.0, MIDDLE): ([34 / 3, 22 / 3, 4, 2], [22, 86 / 3, 36, 134 / 3]),
    (3.0, START): ([1 / 3, 0, 0, 0], [3, 17 / 3, 9, 41 / 3]),
    (3.0, END): ([121 / 3, 97 / 3, 25, 19], [59, 64, 64, 64]),
    (3.0, GAPS): ([34 / 3, 9, 9, 11 / 3], [22, 25, 25, 41]),
    # .4 .8 1.2 1.6
    (5.0, MIDDLE): ([13.2, 10.4, 8, 6], [19.6, 23.2, 27.2, 31.6]),
    (5.0, START): ([0.6, 0.2, 0, 0], [2.2, 3.4, 5, 7]),
    (5.0, END): ([43.8, 38.6, 33.8, 29.4], [55, 61, 64, 64]),
    (5.0, GAPS): ([13.2, 10.4, 9, 9], [19.6, 23.2, 25, 25]),
}
# The weights of the first neighbour serve for all, as in the 3DCE code.
LEGACY = {
    # .8 1.8 2.8 3.8
    (2.5, MIDDLE): ([10.4, 5, 1.6, 0.2], [23.2, 33.8, 46.4, 61]),
    (2.5, START): ([0.2, 0, 0, 0], [3.4, 8, 14.6, 23.2]),
    (2.5, END): ([38.6, 27.2, 17.8, 10.4], [61, 64, 64, 64]),
    (2.5, GAPS): ([10.4, 9, 2.6, 0.2], [23.2, 25, 44.2, 61]),
    # 2/3 5/3 2 8/3
    (3.0, MIDDLE): ([34 / 3, 17 / 3, 4, 2], [22, 97 / 3, 36, 134 / 3]),
    (3.0, START): ([1 / 3, 0, 0, 0], [3, 22 / 3, 9, 41 / 3]),
    (3.0, END): ([121 / 3, 86 / 3, 25, 19], [59, 64, 64, 64]),
    (3.0, GAPS): ([34 / 3, 9, 9, 11 / 3], [22, 25, 25, 41]),
    # .4 .4 1.4 1.4
    (5.0, MIDDLE): ([13.2, 13.2, 7, 7], [19.6, 19.6, 29.4, 29.4]),
    (5.0, START): ([0.6, 0.6, 0, 0], [2.2, 2.2, 6, 6]),
    (5.0, END): ([43.8, 43.8, 31.6, 31.6], [55, 55, 64, 64]),
    (5.0, GAPS): ([13.2, 13.2, 9, 9], [19.6, 19.6, 25, 25]),
}
CASES = [
    *((case, "exact", expected) for case, expected in EXACT.items()),
    *((case, "legacy", LEGACY.get(case, expected)) for case, expected in EXACT.items()),
]


@pytest.mark.parametrize("bounds", ["missing files", "first and last"])
@pytest.mark.parametrize("case, interpolation, expected", CASES)
def test_hand_computed(case, interpolation, expected, bounds):
    interval, place = case
    key, absent = int(place[4]), {2, 6} if place == GAPS else ()

    def read_slice(number):
        if number in absent or not 0 <= number <= 8:
            return None
        return np.full((4, 5), 100 * number**2, np.int16)

    preprocessing = Preprocessing(
        num_images=3,
        window=(0.0, 25500.0),  # 100 HU a grey value
        mean=0.0,
        crop=False,
        interpolation=interpolation,
    )
    ends = {"first": 0, "last": 8} if bounds == "first and last" else {}
    images, _ = prepare_sample(read_slice, key, 0.8, interval, preprocessing, **ends)
    slices = images.flatten(0, 1)
    assert slices.shape == (9, 4, 5)
    assert (slices == slices[:, :1, :1]).all()
    before, after = expected
    wanted = [*reversed(before), key**2, *after]
    np.testing.assert_allclose(slices[:, 0, 0].numpy(), wanted, atol=2e-4)


def test_the_key_slice_is_the_middle_channel_of_the_middle_image():
    for num_images in (1, 3, 5):
        preprocessing = Preprocessing(num_images, window=(0.0, 255.0), mean=0.0, crop=False)
        images, _ = prepare_sample(
            lambda n: np.full((4, 4), n, np.int16), 50, 0.8, 2.0, preprocessing
        )
        grey = images[..., 0, 0].round().int().tolist()
        first = 50 - (3 * num_images - 1) // 2
        assert grey == [[first + 3 * q + c for c in range(3)] for q in range(num_images)]
        assert grey[(num_images - 1) // 2][1] == 50
