import json
from dataclasses import replace

import numpy as np

from lesionkit.evaluation.files import read_detections, read_truth
from lesionkit.inference import write_results

from .scans import results, scan


def written(folder, found):
    write_results(folder, found, ["coco"])
    return (
        json.loads((folder / "coco_images.json").read_text()),
        json.loads((folder / "coco_results.json").read_text()),
    )


def test_images_and_results(tmp_path):
    volume = scan(files=[f"{i:03d}.dcm" for i in range(9)])
    found = results(volume)  # 2 mm places in 2.5 mm slices: slice 2 is the nearest to 1.6 and 2.4
    about, entries = written(tmp_path, found)
    assert [image["id"] for image in about["images"]] == list(range(1, 10))
    assert about["images"][3] == {"id": 4, "file_name": "003.dcm", "width": 60, "height": 40}
    assert about["categories"] == [{"id": 1, "name": "lesion"}]
    assert about["annotations"] == []
    assert [entry["image_id"] for entry in entries] == [3, 4, 9]
    best = found.findings[0].best
    assert entries[0] == {
        "image_id": best.slice + 1,
        "category_id": 1,
        "bbox": [20.25, 5.5, 24.75, 12.0],  # x2 and y2 belong to the box
        "score": 0.9,
        "finding": 1,
    }


def test_thick_slices_have_the_boxes_of_one_place(tmp_path):
    found = results(scan(slices=4, interval=10.0))  # five places a slice
    about, entries = written(tmp_path, found)
    assert [image["id"] for image in about["images"]] == [1, 2, 3, 4]
    assert [entry["image_id"] for entry in entries] == [2, 4]  # of four detections


def test_lesionkit_froc_reads_them(tmp_path):
    found = results(scan())
    about, _ = written(tmp_path, found)
    x1, y1, x2, y2 = found.findings[0].best.box
    image = found.findings[0].best.slice + 1
    about["annotations"] = [
        {"id": 1, "image_id": image, "category_id": 1, "bbox": [x1, y1, x2 - x1 + 1, y2 - y1 + 1]}
    ]
    (tmp_path / "truth.json").write_text(json.dumps(about))
    truth = read_truth(tmp_path / "truth.json")
    read = read_detections(tmp_path / "coco_results.json", truth)
    (box,) = read[truth.file_names.index(f"slice {image - 1}")]
    np.testing.assert_allclose(box, [x1, y1, x2, y2, 0.9], atol=1e-3)
    assert sum(map(len, read)) == 3


def test_nothing_found(tmp_path):
    about, entries = written(tmp_path, replace(results(scan()), findings=[]))
    assert entries == []
    assert len(about["images"]) == 9
