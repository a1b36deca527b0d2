import numpy as np
import pytest

from lesionkit.visualize.windows import describe, parse_window, to_grey, window_range


@pytest.mark.parametrize(
    "text, expected",
    [
        ("lung", (-1350, 150)),
        ("soft-tissue", (-150, 250)),
        ("soft tissue", (-150, 250)),
        ("bone", (-500, 1300)),
        ("-160,240", (-160, 240)),
        (" -1e3 , 0.5", (-1000, 0.5)),
    ],
)
def test_presets_and_numbers(text, expected):
    assert parse_window(text) == expected
    assert window_range(expected) == expected


@pytest.mark.parametrize("text", ["", "liver", "5", "5,5", "250,-150", "0,nan", "0,inf", "1,2,3"])
def test_no_window(text):
    with pytest.raises(ValueError, match=r"must be lung, soft-tissue, bone, or LOW,HIGH"):
        parse_window(text)


def test_description_gives_the_numbers():
    assert describe((-1350, 150)) == "lung -1350 to 150 HU"
    assert describe((-160.5, 240)) == "-160.5 to 240 HU"


def test_grey():
    hu = np.array([[np.nan, -32768, -150, 50, 250, 32767]], np.float32)
    assert to_grey(hu, (-150, 250)).tolist() == [[0, 0, 0, 128, 255, 255]]
    assert to_grey(hu[:, 1:].astype(np.int16), (-150, 250)).tolist() == [[0, 0, 128, 255, 255]]
