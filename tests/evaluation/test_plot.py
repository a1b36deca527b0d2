import numpy as np
import pytest

from lesionkit.evaluation import bootstrap_froc, froc, plot_froc
from lesionkit.evaluation.plot import _curve

LESION = [10, 10, 19, 19]


def test_a_picture_of_two_curves(tmp_path):
    from PIL import Image

    result = froc([[[*LESION, 0.5]], []], [[LESION], [LESION]])
    nothing = froc([[], []], [[LESION], [LESION]])
    path = tmp_path / "froc.png"
    plot_froc(path, {"some": result, "none": nothing}, {"some": bootstrap_froc(result)}, "a title")
    with Image.open(path) as picture:
        colours = {colour[:3] for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert {(31, 119, 180), (255, 127, 14)} <= colours  # one of each curve
    assert [entry.name for entry in tmp_path.iterdir()] == ["froc.png"]
    with pytest.raises(ValueError, match="at least one result"):
        plot_froc(path, {})


def test_the_curve_is_held_to_the_end_and_cut_there():
    result = froc([[[*LESION, 0.9], [50, 50, 59, 59, 0.8], [70, 70, 79, 79, 0.7]]], [[LESION]])
    x, y = _curve(result)
    np.testing.assert_array_equal(x, [1 / 8, 1 / 8, 1, 2, 16])
    np.testing.assert_array_equal(y, [0, 100, 100, 100, 100])
    x, y = _curve(froc([[]], [[LESION]]))
    np.testing.assert_array_equal([x, y], [[1 / 8, 16], [0, 0]])
    many = [[50, 50, 59, 59, 0.8]] * 40 + [[*LESION, 0.1]]
    x, y = _curve(froc([many], [[LESION]]))
    assert x.max() == 16
    assert y.max() == 0
