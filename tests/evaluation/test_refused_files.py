"""Files that could be measured, but whose numbers would mean nothing."""

import json

import pytest

from lesionkit.data import write_dl_info
from lesionkit.errors import InputError
from lesionkit.evaluation import read_detections, read_truth

from ..data.deeplesion.files import row

BOXES = "file_name,x1,y1,x2,y2\n"
SCORED = "file_name,x1,y1,x2,y2,score\n"
TRUTH = BOXES + "a.png,10,10,19,19\nb.png,,,,\n"
OWN = {"format": "lesionkit-dataset-detections-1"}


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def coco(identity=7, box=(10, 10, 10, 10), annotated=7, patient=1, more=()):
    """COCO annotations of two images, the first of which has a lesion."""
    images = [{"id": identity, "file_name": "a.png", "patient": patient}]
    images.append({"id": 3, "file_name": "b.png", "patient": 2})
    boxes = [box, *more]
    annotations = [{"image_id": annotated, "bbox": [*box]} for box in boxes]
    return {"images": images, "annotations": annotations}


def own(boxes, scores):
    return {**OWN, "images": [{"file_name": "a.png", "boxes": boxes, "scores": scores}]}


def result(image_id="a.png", bbox=(1, 2, 3, 4), score=0.5):
    return [{"image_id": image_id, "bbox": [*bbox], "score": score}]


def assert_named(read, path, words):
    with pytest.raises(InputError) as error:
        read(path)
    for word in (str(path), *words):
        assert word in str(error.value)


@pytest.mark.parametrize(
    "content, words",
    [
        (BOXES, ["no lesion in it", "give ground truth", "file_name,x1,y1,x2,y2"]),
        ("", ["empty; give a file of ground truth", "file_name,x1,y1,x2,y2"]),
        ("\n,,\n", ["empty; give a file of ground truth"]),
        (TRUTH.replace(",", ";"), ["line 1", "divided by semicolons", "commas"]),
        (TRUTH.replace(",", "\t"), ["line 1", "divided by tabs", "commas"]),
        ("file_name,x1,y1,x2,y2,x1\na,1,2,3,4,5\n", ["line 1", "2 columns have the name x1"]),
        ("file_name,x1,y1,x2,y2,X1\na,1,2,3,4,5\n", ["line 1", "2 columns have the name x1"]),
        (TRUTH + "a.png,10,10.0,19,19\n", ["line 4", "a.png with the same box, as in line 2"]),
        (TRUTH + "b.png,,,,\n", ["line 4", "b.png without a box, as in line 3"]),
        (TRUTH + "a.png,,,,\n", ["line 4", "a.png has a row with a box and one without"]),
        (TRUTH + "b.png,1,2,3,4\n", ["line 4", "b.png has a row with a box and one without"]),
        (BOXES + "a.png,.1,.2,.3,.4\n", ["no box reaches beyond 1.5 pixels", "multiply"]),
        (coco(box=(0.25, 0.25, 1.25, 1)), ["no box reaches beyond 1.5 pixels", "multiply"]),
        (coco(more=[(10, 10, 10, 10)]), ["annotations[1]", "same box as annotations[0]"]),
        (coco(identity=True), ["images[0]", "whole number or text", "True"]),
        (coco(identity=7.0), ["images[0]", "whole number or text", "7.0"]),
        (coco(annotated=True), ["annotations[0]", "whole number or text", "True"]),
        (coco(annotated="7"), ["annotations[0]", 'image_id "7" is text, but a number', "write 7"]),
        (coco("7"), ["annotations[0]", "image_id 7 is a number, but text", 'write "7"']),
        (coco(annotated=8), ["annotations[0]", "image_id 8", "correct it or add"]),
        (coco(box=(10, 10, True, 10)), ["annotations[0]", "bbox", "True"]),
        (coco(patient=False), ["images[0]", "patient", "False"]),
    ],
)
def test_truth(tmp_path, content, words):
    assert_named(read_truth, write(tmp_path / "truth", content), words)


@pytest.mark.parametrize(
    "content, words",
    [
        ("", ["empty; give a file of detections", "file_name,x1,y1,x2,y2,score"]),
        (SCORED.replace(",", ";"), ["line 1", "divided by semicolons", "commas"]),
        (SCORED.replace("\n", ",score\n"), ["line 1", "2 columns have the name score"]),
        (SCORED + "q.png,1,2,3,4,1\n", ["line 2", "'q.png'", "correct the name", "leave its"]),
        (SCORED + "a.png,.1,.2,.3,.4,9\na.png,0,0,1,1,9\n", ["1.5 pixels", "multiply"]),
        (result(bbox=(0.1, 0.2, 0.3, 0.4)), ["1.5 pixels", "multiply"]),
        (own([[0.1, 0.2, 0.3, 0.4]], [1]), ["1.5 pixels", "multiply"]),
        (own([[1, 2, 3, True]], [1]), ["images[0]", "must be numbers", "True"]),
        (own([[1, 2, 3, "4"]], [1]), ["images[0]", "must be numbers", "'4'"]),
        (own([[1, 2, 3, 4]], [False]), ["images[0]", "must be numbers", "False"]),
        (result(score=True), ["entries[0]", "score", "True"]),
        (result(bbox=(1, 2, 3, True)), ["entries[0]", "bbox", "True"]),
        (result(image_id=True), ["entries[0]", "whole number or text", "True"]),
        (result(image_id=7.0), ["entries[0]", "whole number or text", "7.0"]),
        (result(image_id="7"), ["entries[0]", 'image_id "7" is text, but a number', "write 7"]),
        (result(image_id="8"), ["entries[0]", "image_id '8'", "correct it"]),
    ],
)
def test_detections(tmp_path, content, words):
    truth = read_truth(write(tmp_path / "truth", coco()))
    assert_named(
        lambda path: read_detections(path, truth), write(tmp_path / "found", content), words
    )


def test_ids_of_text(tmp_path):
    truth = read_truth(write(tmp_path / "truth", coco("07", annotated="07")))
    found = read_detections(write(tmp_path / "found", result("07")), truth)
    assert [len(boxes) for boxes in found] == [1, 0]
    truth = read_truth(write(tmp_path / "truth", coco("7", annotated="7")))
    path = write(tmp_path / "found", result(7))
    assert_named(lambda path: read_detections(path, truth), path, ['write "7"'])


def test_small_boxes_are_no_fractions_where_any_is_of_pixels(tmp_path):
    truth = read_truth(write(tmp_path / "truth", BOXES + "a.png,0,0,1,1\nb.png,0,0,0,0\n"))
    for content in ("a.png,0.5,0.5,1,1,1\nb.png,0,0,2,2,1\n", "a.png,0,0,1,1,1\n", ""):
        read_detections(write(tmp_path / "found", SCORED + content), truth)


def test_splits_of_one_s_own(tmp_path):
    rows = [row(f"{patient:06d}_01_02_010.png", Patient_index=patient) for patient in (1, 2, 3)]
    rows.append(row("000004_01_02_010.png", Patient_index=4, Possibly_noisy=1))
    write_dl_info(tmp_path / "DL_info.csv", rows)
    splits = write(tmp_path / "splits.csv", "patient,split\n1,train\n3,test\n4,test\n")

    def images(**options):
        truth = read_truth(tmp_path / "DL_info.csv", split_file=splits, **options)
        return [int(name[:6]) for name in truth.file_names]

    assert images() == [3]
    assert images(split="train") == [1]
    assert images(split="all") == [1, 3]
    with pytest.raises(InputError, match=r"no lesion in it of split val .*splits.csv"):
        images(split="val")
    truth = read_truth(tmp_path / "DL_info.csv", split_file=splits)
    noisy = write(tmp_path / "noisy", SCORED + "000004_01_02_010.png,1,2,3,4,1\n")
    assert [len(boxes) for boxes in read_detections(noisy, truth)] == [0]
    other = write(tmp_path / "other", SCORED + "000002_01_02_010.png,1,2,3,4,1\n")
    words = ["line 2", "not in split test of", f"by {splits}", "another --split"]
    assert_named(lambda path: read_detections(path, truth), other, words)
    table = write(tmp_path / "truth", TRUTH)
    with pytest.raises(InputError, match=r"splits.csv: splits are for DL_info.csv"):
        read_truth(table, split_file=splits)
