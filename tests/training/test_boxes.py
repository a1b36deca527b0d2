import numpy as np
import pytest

from lesionkit.errors import InputError
from lesionkit.training import read_boxes

from .scans import ball_scan

HEADER = "slice,x1,y1,x2,y2\n"


def test_boxes_by_slice(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("y2,name,slice,x1,y1,x2\n32,a,4,32,16,48\n9,b,4,1,2,8.5\n5,c,0,0,0,5\n")
    boxes = read_boxes(path, ball_scan())
    assert sorted(boxes) == [0, 4]
    np.testing.assert_array_equal(boxes[4], [[32, 16, 48, 32], [1, 2, 8.5, 9]])
    assert boxes[4].dtype == np.float32


@pytest.mark.parametrize(
    "text,message",
    [
        ("slice,x1,y1,x2\n4,1,1,2\n", "line 1: columns y2"),
        ("", "line 1"),
        (HEADER, "no boxes"),
        (HEADER + "4,1,1,2\n", "line 2: .* numbers"),
        (HEADER + "4,1,1,2,2\n4.5,1,1,2,2\n", "line 3"),
        (HEADER + "9,1,1,2,2\n", r"slice 9 .* 0\.\.8"),
        (HEADER + "4,5,1,2,2\n", "x1 <= x2"),
        (HEADER + "4,1,1,64,2\n", "64 x 64 pixels"),
        (HEADER + "4,nan,1,2,2\n", "line 2"),
    ],
)
def test_bad_files_name_the_line(tmp_path, text, message):
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_boxes(path, ball_scan())


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match="give a CSV file"):
        read_boxes(tmp_path / "none.csv", ball_scan())


def test_binary_file(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_bytes(b"\xff\xfe\x00" * 9)
    with pytest.raises(InputError, match="not a CSV"):
        read_boxes(path, ball_scan())
