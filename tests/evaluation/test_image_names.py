"""Images by DeepLesion's two names: 000001_01_02_010.png, and on a disk 000001_01_02/010.png."""

import json

import pytest

from lesionkit.data import write_dl_info
from lesionkit.errors import InputError
from lesionkit.evaluation import read_detections, read_truth, write_detections

from ..data.deeplesion.files import row

IN_A_ROW, ON_DISK = "000001_01_02_010.png", "000001_01_02/010.png"
BOX = [5, 3, 35, 20, 0.5]


def found_in(path, form, name):
    """A file of detections with a box on the image called ``name``."""
    if form == "csv":
        values = ",".join(map(str, BOX))
        path.write_text(f"file_name,x1,y1,x2,y2,score\n{name},{values}\n")
    elif form == "coco":
        entry = {"image_id": name, "bbox": [5, 3, 31, 18], "score": 0.5}
        path.write_text(json.dumps([entry]))
    else:
        write_detections(path, [name], [[BOX]])
    return path


def truth_in(path, form, name):
    if form == "dl_info":
        write_dl_info(path, [row("000003_01_02_010.png"), row(name), noisy()])
    elif form == "csv":
        path.write_text(f"file_name,x1,y1,x2,y2\nother.png,1,2,3,4\n{name},5,3,35,20\n")
    else:
        images = [{"id": 1, "file_name": "other.png"}, {"id": 2, "file_name": name}]
        annotations = [{"image_id": 2, "bbox": [5, 3, 31, 18]}]
        path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return read_truth(path)


def noisy():
    return row("000002_01_02_010.png", Possibly_noisy=1)


@pytest.mark.parametrize("form", ["csv", "coco", "own"])
def test_detections_name_images_either_way(tmp_path, form):
    for kind, name in (
        ("dl_info", IN_A_ROW),
        *((kind, name) for kind in ("csv", "coco") for name in (IN_A_ROW, ON_DISK)),
    ):
        truth = truth_in(tmp_path / "truth", kind, name)
        for written in (IN_A_ROW, ON_DISK):
            found = read_detections(found_in(tmp_path / "found", form, written), truth)
            assert [boxes.tolist() for boxes in found] == [[], [BOX]]


def test_noisy_images_are_known_on_disk_too(tmp_path):
    truth = truth_in(tmp_path / "truth", "dl_info", IN_A_ROW)
    found = read_detections(found_in(tmp_path / "f", "csv", "000002_01_02/010.png"), truth)
    assert [len(boxes) for boxes in found] == [0, 0]


def test_images_of_both_names_are_two(tmp_path):
    content = f"file_name,x1,y1,x2,y2\n{ON_DISK},1,2,3,4\n{IN_A_ROW},5,3,35,20\n"
    (tmp_path / "truth").write_text(content)
    truth = read_truth(tmp_path / "truth")
    for written, counts in ((ON_DISK, [1, 0]), (IN_A_ROW, [0, 1])):
        found = read_detections(found_in(tmp_path / "found", "csv", written), truth)
        assert [len(boxes) for boxes in found] == counts


@pytest.mark.parametrize(
    "name", ["000009_01_02/010.png", "a/000001_01_02/010.png", "000001_01_02/x.png", "010.png"]
)
def test_strangers_stay_strangers(tmp_path, name):
    truth = truth_in(tmp_path / "truth", "dl_info", IN_A_ROW)
    with pytest.raises(InputError, match=f"image '{name}' is not in"):
        read_detections(found_in(tmp_path / "found", "csv", name), truth)
