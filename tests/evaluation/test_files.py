import json

import numpy as np
import pytest

from lesionkit.data import write_dl_info
from lesionkit.errors import InputError
from lesionkit.evaluation import froc
from lesionkit.evaluation.files import read_detections, read_truth, write_detections

from ..data.deeplesion.files import row

CSV_TRUTH = """file_name,patient,x1,y1,x2,y2
a.png,p1,10,10,19,19
b.png,p1,,,,
a.png,p1,30,30,39,39.5
c.png,p2,0,0,0,0
"""
COCO_TRUTH = {
    "images": [
        {"id": 7, "file_name": "a.png", "patient": 1},
        {"id": 3, "file_name": "b.png", "patient": 1},
        {"id": 5, "file_name": "c.png", "patient": 2},
    ],
    "annotations": [
        {"image_id": 7, "bbox": [10, 10, 10, 10], "category_id": 1},
        {"image_id": 5, "bbox": [0, 0, 1, 1], "category_id": 1},
        {"image_id": 7, "bbox": [30, 30, 10, 10.5], "category_id": 2},
    ],
}
BOXES = [[[10, 10, 19, 19], [30, 30, 39, 39.5]], [], [[0, 0, 0, 0]]]
FOUND = [[[10, 10, 19, 19, 0.9], [1, 2, 3, 4, 0.25]], [], [[0, 0, 1, 1, 0.5]]]


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def truth(tmp_path):
    return read_truth(write(tmp_path / "truth", CSV_TRUTH))


@pytest.mark.parametrize("content", [CSV_TRUTH, "\ufeff" + CSV_TRUTH, COCO_TRUTH])
def test_truth_of_each_format(tmp_path, content):
    truth = read_truth(write(tmp_path / "truth", content))
    assert truth.file_names == ("a.png", "b.png", "c.png")
    assert [boxes.tolist() for boxes in truth.boxes] == BOXES
    assert [boxes.shape[1] for boxes in truth.boxes] == [4, 4, 4]
    assert len(set(truth.patients)) == 2
    assert truth.records is None


def test_patients_may_be_unknown(tmp_path):
    content = "file_name,x1,y1,x2,y2,note\na.png,1,2,3,4,x\n"
    assert read_truth(write(tmp_path / "truth.csv", content)).patients is None
    images = [{"id": "x", "file_name": "a.png"}]
    coco = {"images": images, "annotations": [{"image_id": "x", "bbox": [0, 0, 1, 1]}]}
    assert read_truth(write(tmp_path / "truth.json", coco)).patients is None


def test_dl_info_as_truth_leaves_noisy_boxes_out(tmp_path):
    path = tmp_path / "boxes.csv"
    rows = [
        row("000001_01_02_010.png"),
        row("000002_01_02_010.png", Patient_index=2, Possibly_noisy=1),
        row("000003_01_02_010.png", Train_Val_Test=1, Patient_index=3),
    ]
    write_dl_info(path, rows)
    truth = read_truth(path)
    assert truth.file_names == ("000001_01_02_010.png",)
    assert truth.boxes[0].tolist() == [[5, 2.5, 35, 20.5]]  # the file counts from 1
    assert truth.patients.tolist() == [1]
    assert read_truth(path, "all").file_names[1] == "000003_01_02_010.png"
    found = write(
        tmp_path / "found.csv", "file_name,x1,y1,x2,y2,score\n000002_01_02_010.png,1,1,2,2,1"
    )
    assert [len(boxes) for boxes in read_detections(found, truth)] == [0]
    found = write(
        tmp_path / "found.csv", "file_name,x1,y1,x2,y2,score\n000003_01_02_010.png,1,1,2,2,1"
    )
    with pytest.raises(
        InputError, match=r"line 2: image '000003.*not in split test of .*boxes.csv"
    ):
        read_detections(found, truth)
    with pytest.raises(InputError, match=r"no lesion in it of split val"):
        read_truth(path, "val")


CSV_FOUND = """score, x1,y1,x2,y2,file_name,extra
.25,1,2,3,4,a.png,
0.5,0,0,1,1,c.png,x

0.9,10,10,19,19,a.png, "1,2"
"""
COCO_FOUND = [
    {"image_id": "a.png", "bbox": [10, 10, 10, 10], "score": 0.9, "category_id": 1},
    {"image_id": "a.png", "bbox": [1, 2, 3, 3], "score": 0.25},
    {"image_id": "c.png", "bbox": [0, 0, 2, 2], "score": 0.5},
]


def test_detections_of_each_format(tmp_path, truth):
    own = tmp_path / "own"
    names = ["c.png", "a.png", "b.png"]
    write_detections(own, names, [FOUND[2], FOUND[0], FOUND[1]])
    coco_truth = read_truth(write(tmp_path / "coco", COCO_TRUTH))
    ids = {"a.png": 7, "c.png": 5}
    by_id = [{**entry, "image_id": ids[entry["image_id"]]} for entry in COCO_FOUND]
    for known, content in (
        (truth, CSV_FOUND),
        (truth, CSV_FOUND.replace("\n", "\r\n")),
        (truth, COCO_FOUND),
        (coco_truth, COCO_FOUND),
        (coco_truth, by_id),
        (truth, own.read_text()),
        (coco_truth, own.read_text()),
    ):
        found = read_detections(write(tmp_path / "found", content), known)
        assert [sorted(boxes.tolist()) for boxes in found] == [sorted(image) for image in FOUND]
        assert {boxes.shape[1] for boxes in found} == {5}
        assert froc(found, known.boxes).sensitivity[0] == 1 / 3


def test_coco_boxes_keep_their_area(tmp_path):
    """The overlap with inclusive ends equals COCO's of width times height: 50 / 100."""
    truth = read_truth(write(tmp_path / "truth", COCO_TRUTH))
    half = [{"image_id": 7, "bbox": [10, 10, 10, 5], "score": 1}]
    found = read_detections(write(tmp_path / "found", half), truth)
    assert froc(found, truth.boxes, iou_threshold=0.5).status[0].tolist() == [1]
    assert froc(found, truth.boxes, iou_threshold=0.501).status[0].tolist() == [0]


def test_what_is_written_comes_back_number_by_number(tmp_path, truth):
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.random((20, 4), np.float32) * 512, axis=1)
    found = [{"boxes": boxes, "scores": rng.random(20, np.float32)}, [], []]
    write_detections(tmp_path / "found.json", truth.file_names, found)
    (first, *rest) = read_detections(tmp_path / "found.json", truth)
    np.testing.assert_array_equal(first.astype(np.float32)[:, :4], boxes)
    np.testing.assert_array_equal(first[:, 4], found[0]["scores"])
    assert [len(image) for image in rest] == [0, 0]
    assert len((tmp_path / "found.json").read_text().splitlines()) == 5


def test_no_detections_at_all(tmp_path, truth):
    for content in ("file_name,x1,y1,x2,y2,score\n", "[]"):
        found = read_detections(write(tmp_path / "found", content), truth)
        assert [image.shape for image in found] == [(0, 5)] * 3


HEADER = "file_name,x1,y1,x2,y2,score\n"
OWN = {"format": "lesionkit-dataset-detections-1"}


@pytest.mark.parametrize(
    "content, words",
    [
        ("", ["empty", "detections.json"]),
        (" \n", ["empty", "detections.json"]),
        (",\n,", ["empty", "detections.json"]),
        ("file_name,x1\rx", ["line 1", "no column"]),
        (HEADER + '"a.png,1', ["line 2", "1 values"]),
        ("\x89PNG\x00", ["no column", "score"]),
        ("file_name,x1,y1,x2,y2\n", ["line 1", "no column score", "CSV"]),
        (HEADER + "a.png,1,2,3,4,.5\na.png,1,2,3,x,.5\n", ["line 3", "x", "finite numbers"]),
        (HEADER + "\na.png,1,2,3,nan,.5\n", ["line 3", "nan", "finite"]),
        (HEADER + "a.png,1,2,3,.5\n", ["line 2", "5 values", "6 columns"]),
        (HEADER + "a.png,100,200,30,40,.5\n", ["line 2", "ends before it begins", "corners"]),
        (HEADER + "z.png,1,2,3,4,.5\n", ["line 2", "image 'z.png' is not in", "'a.png'"]),
        ("[\n1,\n2", ["line 3", "not JSON"]),
        ("[" * 100_000, ["not usable JSON"]),
        ([1], ["entries[0]", "bbox"]),
        ([{"image_id": "a.png", "bbox": [1, 2, 3]}], ["entries[0]", "[1, 2, 3]"]),
        ([{"image_id": "a.png", "bbox": [1, 2, -3, 1]}], ["entries[0]", "negative"]),
        ([{"image_id": "a.png", "bbox": [1, 2, 3, 1e999]}], ["entries[0]", "finite"]),
        ([{"image_id": "a.png", "bbox": [1, 2, 3, 4]}], ["entries[0]", "score", "None"]),
        ([{"image_id": 7, "bbox": [1, 2, 3, 4], "score": 1}], ["image_id 7", "COCO annotations"]),
        ([{"image_id": [], "bbox": [1, 2, 3, 4], "score": 1}], ["image_id", "number or text"]),
        ([{"image_id": "q", "bbox": [1, 2, 3, 4], "score": 1}], ["entries[0]", "'q'"]),
        ({"format": "lesionkit-detections-2"}, ["lesionkit detect", "one scan"]),
        (COCO_TRUTH, ["COCO annotations, which are ground truth"]),
        ({"a": 1}, ["no detections that are known"]),
        (OWN, ['"images" must be a list']),
        ({**OWN, "images": [1]}, ["images[0]", "file_name"]),
        ({**OWN, "images": [{"file_name": "a.png"}]}, ["images[0]", "keys 'boxes' and 'scores'"]),
        ({**OWN, "images": [{"file_name": "q", "boxes": [], "scores": []}]}, ["images[0]", "'q'"]),
        ({**OWN, "images": [{"file_name": "a.png", "boxes": [], "scores": []}] * 2}, ["images[1]"]),
        ({**OWN, "images": [{"file_name": "a.png", "boxes": [{}], "scores": [1]}]}, ["images[0]"]),
        ({**OWN, "images": [{"file_name": "a", "boxes": [[10**400] * 4], "scores": [1]}]}, ["too"]),
        (
            {**OWN, "images": [{"file_name": "a.png", "boxes": [[9, 9, 1, 1]], "scores": [1]}]},
            ["images[0]", "corners"],
        ),
    ],
)  # fmt: skip
def test_bad_detections_are_named(tmp_path, truth, content, words):
    path = write(tmp_path / "found", content)
    with pytest.raises(InputError) as error:
        read_detections(path, truth)
    for word in (str(path), *words):
        assert word in str(error.value)


def changed(name, index, **values):
    entries = [dict(entry) for entry in COCO_TRUTH[name]]
    entries[index] |= values
    return {**COCO_TRUTH, name: entries}


@pytest.mark.parametrize(
    "content, words",
    [
        ("file_name,x1\n", ["line 1", "no column y1, x2, y2"]),
        (HEADER, ["has scores", "detections"]),
        ("file_name,x1,y1,x2,y2\n", ["no lesion in it"]),
        ("file_name,x1,y1,x2,y2\na,1,2,3,\n", ["line 2", "finite numbers"]),
        ("file_name,x1,y1,x2,y2\na,1,2,0.5,4\n", ["line 2", "less than a pixel", "pixels"]),
        ("file_name,x1,y1,x2,y2\na,9,9,5,5\n", ["line 2", "corners"]),
        ("file_name,x1,y1,x2,y2\n,1,2,3,4\n", ["line 2", "file_name or patient is empty"]),
        (CSV_TRUTH.replace("c.png", "a.png"), ["line 5", "a.png is of patient p1 above"]),
        ([], ["JSON, but not COCO annotations"]),
        ({"images": {}, "annotations": []}, ['"images" must be a list']),
        (changed("images", 1, id=7), ["images[1]", "twice"]),
        (changed("images", 1, file_name=None), ["images[1]", "file_name"]),
        (changed("images", 1, patient=None), ["images[1]", "patient"]),
        (changed("annotations", 2, image_id=8), ["annotations[2]", "image_id 8"]),
        (changed("annotations", 2, bbox=None), ["annotations[2]", "bbox"]),
        (changed("annotations", 2, bbox=[1, 1, 0.5, 4]), ["annotations[2]", "less than a pixel"]),
        (changed("annotations", 2, iscrowd=1), ["annotations[2]", "crowd"]),
    ],
)
def test_bad_truth_is_named(tmp_path, content, words):
    path = write(tmp_path / "truth", content)
    with pytest.raises(InputError) as error:
        read_truth(path)
    for word in (str(path), *words):
        assert word in str(error.value)


def test_files_that_cannot_be_read(tmp_path, truth):
    with pytest.raises(InputError, match=r"missing: cannot be read \(No such file"):
        read_truth(tmp_path / "missing")
    with pytest.raises(InputError, match="Is a directory"):
        read_detections(tmp_path, truth)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text file"):
        read_truth(tmp_path / "binary")
