import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lesionkit.data.resample import body_range, resize


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    scale=st.floats(0.05, 3.0),
    seed=st.integers(0, 2**32 - 1),
)
@example(height=300, width=310, scale=1.0009, seed=0)  # keeps its size: OpenCV copies
@example(height=100, width=600, scale=1.0009, seed=0)  # keeps its height only
@example(height=512, width=380, scale=0.5, seed=0)
@example(height=51, width=33, scale=0.5, seed=0)
@example(height=401, width=512, scale=2.0, seed=0)
@example(height=420, width=333, scale=0.977 / 0.8, seed=0)
def test_resize_is_opencv_with_fx_and_fy(height, width, scale, seed):
    cv2 = pytest.importorskip("cv2")
    plane = np.random.default_rng(seed).uniform(0, 255, (height, width)).astype(np.float32)
    got = resize(plane[None], scale)
    assert got.dtype == np.float32
    if round(height * scale) == 0 or round(width * scale) == 0:
        assert min(got.shape) == 1
    else:
        expected = cv2.resize(plane, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        assert got.shape[1:] == expected.shape
        # OpenCV rounds positions to float32: up to 4e-6 of a pixel, of 255 grey levels, here
        np.testing.assert_allclose(got[0], expected, rtol=0, atol=2e-3)


def test_resize_samples_with_the_given_scale():
    # 10 columns * 1.25 = 12.5 -> 12; column x of the result lies at (x + .5) / 1.25 - .5
    ramp = np.arange(10, dtype=np.float32)[None, None].repeat(4, 1)
    row = resize(ramp, 1.25)[0, 0]
    np.testing.assert_allclose(row, np.clip((np.arange(12) + 0.5) / 1.25 - 0.5, 0, 9), atol=1e-6)


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    blobs=st.lists(st.tuples(*[st.integers(0, 39)] * 2, *[st.integers(1, 20)] * 2), max_size=6),
    seed=st.integers(0, 1000),
    density=st.sampled_from([0.0, 0.02, 0.1]),
)
def test_body_range_is_that_of_the_opened_mask(shape, blobs, seed, density):
    ndimage = pytest.importorskip("scipy.ndimage")
    hu = np.full(shape, -1000, np.int16)
    for y, x, height, width in blobs:
        hu[y : y + height, x : x + width] = 0
    hu[np.random.default_rng(seed).random(shape) < density] = -1000
    mask = ndimage.binary_opening(hu > -768, np.ones((7, 7)))
    if not mask.any():
        mask[:] = True
    rows, columns = np.nonzero(mask)
    assert body_range(hu) == (rows.min(), rows.max(), columns.min(), columns.max())


def test_body_is_strictly_above_minus_768():
    hu = np.full((20, 20), -768, np.int16)
    hu[5:12, 6:13] = -767
    assert body_range(hu) == (5, 11, 6, 12)
    hu[5:12, 6] = -768  # six columns wide: opened away
    assert body_range(hu) == (0, 19, 0, 19)
