"""COCO: a results file, and the images and categories that it refers to."""

import json
import os
from pathlib import Path

from lesionkit.files import atomic_write
from lesionkit.inference.results import ScanResults

CATEGORY = {"id": 1, "name": "lesion"}


def write(folder: str | os.PathLike, results: ScanResults) -> None:
    """Write ``coco_images.json`` and ``coco_results.json``.

    Images are the slices that are nearest to a searched place, numbered from 1 in the order of the
    scan, and have the detections of the place that is nearest to them: of the several places in
    one thick slice the others are left out, since all of them would count against one truth.
    "bbox" is [x, y, width, height] from edge to edge, x and y being the first pixel.
    """
    volume = results.volume
    _, rows, columns = volume.hu.shape
    images = [
        {
            "id": number + 1,
            "file_name": volume.slice_files[number] if volume.slice_files else f"slice {number}",
            "width": columns,
            "height": rows,
        }
        for number in sorted(results.place_of)
    ]
    found = [
        {
            "image_id": one.slice + 1,
            "category_id": CATEGORY["id"],
            "bbox": [round(v, 3) for v in (x1, y1, x2 - x1 + 1, y2 - y1 + 1)],
            "score": round(one.score, 6),
            "finding": finding,
        }
        for one, finding in results.detections
        if one.place == results.place_of.get(one.slice)
        for x1, y1, x2, y2 in [one.box]
    ]
    about = {
        "info": {"description": f"slices of {volume.source}"},
        "images": images,
        "annotations": [],
        "categories": [CATEGORY],
    }
    for name, content in (("coco_images.json", about), ("coco_results.json", found)):
        with atomic_write(Path(folder, name)) as path:
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
