"""Rates a float away from a point of the curve: which false positive is the first beyond them."""

import numpy as np
import pytest

from lesionkit.evaluation import froc
from lesionkit.evaluation.curve import _stop

LESION, ELSEWHERE = [10, 10, 19, 19], [50, 50, 59, 59]


@pytest.mark.parametrize(
    "images, false_positives",
    [
        (3116, 8710),  # the float below 8710 / 3116, times 3116, is 8710
        (49, 1),  # 1 / 49, times 49, is below 1
        (7, 21),
    ],
)
def test_a_rate_is_reached_by_the_curve_s_own_numbers(images, false_positives):
    """The lesion is found right after the last of the false positives."""
    found = [[*ELSEWHERE, 0.5]] * false_positives + [[*LESION, 0.4]] + [[*ELSEWHERE, 0.3]]
    rate = false_positives / images
    rates = (np.nextafter(rate, 0), rate, np.nextafter(rate, 100))
    nothing = [[]] * (images - 1)
    expected = {"hold": [0, 1, 1], "strict": [0, 1, 1], "3dce": [0, 0, 1]}
    for mode, sensitivity in expected.items():
        result = froc([found, *nothing], [[LESION], *nothing], rates, mode=mode)
        assert result.curve_fp[-2] == rate
        assert result.sensitivity.tolist() == sensitivity


def test_stops_where_the_divided_counts_do():
    rng = np.random.default_rng(0)
    counts = np.arange(1, 20_000)
    for images in [49, 3116, *rng.integers(2, 5000, 60).tolist()]:
        points = counts / images
        rates = rng.choice(points[:-10], 40)
        rates = np.concatenate([rates, np.nextafter(rates, 0), np.nextafter(rates, np.inf)])
        (stop,) = _stop(rates, np.array([images]), "hold")
        np.testing.assert_array_equal(stop, np.searchsorted(points, rates, side="right") + 1)
        (stop,) = _stop(rates, np.array([images]), "3dce")
        np.testing.assert_array_equal(stop, np.searchsorted(points, rates, side="left") + 1)
