"""Detections on many images, from a file and to one."""

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lesionkit.errors import InputError
from lesionkit.evaluation.boxes import as_detections
from lesionkit.evaluation.files.content import (
    COORDINATES,
    Table,
    check_corners,
    check_pixels,
    check_type,
    coco_boxes,
    is_identity,
    is_number,
    numbers,
    read_content,
)
from lesionkit.evaluation.files.truth import Truth
from lesionkit.files import atomic_write
from lesionkit.version import __version__

if TYPE_CHECKING:
    from lesionkit.evaluation.boxes import Detections

FORMAT = "lesionkit-dataset-detections-1"
COLUMNS = ("file_name", *COORDINATES, "score")
WHAT = (
    "detections (detections.json of lesionkit eval, COCO results, or CSV with "
    "file_name,x1,y1,x2,y2,score)"
)
_ON_DISK = re.compile(r"^([^/]+)/(\d+\.png)$")


def write_detections(
    path: str | os.PathLike, file_names: Sequence[str], detections: "Detections"
) -> None:
    """Write detections as JSON, which :func:`read_detections` reads back number by number.

    Args:
        path: the file, written at once.
        file_names: of the images.
        detections: for each image, as ``froc`` takes them, in 0-based pixels, inclusive ends.
    """
    images = []
    for name, entry in zip(file_names, detections, strict=True):
        values = as_detections(entry, f"detections[{name}]")
        boxes, scores = values[:, :4].tolist(), values[:, 4].tolist()
        images.append({"file_name": name, "boxes": boxes, "scores": scores})
    head = json.dumps({"format": FORMAT, "lesionkit": __version__})
    lines = ",\n".join(map(json.dumps, images))  # an image a line, for people and for diff
    with atomic_write(path) as temporary:
        temporary.write_text(f'{head[:-1]}, "images": [\n{lines}\n]}}\n', encoding="utf-8")


def read_detections(path: str | os.PathLike, truth: Truth) -> list[np.ndarray]:
    """Detections for each image of ``truth``, [n, 5] float64 (x1, y1, x2, y2, score).

    The format is told by the content:

    - what :func:`write_detections` writes;
    - COCO results: a list of {"image_id", "bbox": [x, y, width, height], "score"}, of whatever
      category; image ids are those of the truth if it is COCO's too, else file names;
    - CSV with the columns file_name,x1,y1,x2,y2,score, others are ignored.

    Images are named as in the truth, or in the other of DeepLesion's two ways: a slice's file on
    a disk, 000001_01_01/109.png, is 000001_01_01_109.png of DL_info.csv. An image without
    detections may be left out. With DL_info.csv as truth, detections on images of the split whose
    boxes are all possibly noisy are left out.

    Raises:
        InputError: the file is none of these, an entry is wrong, or an image is not in the truth
            (the line or entry is named), or all boxes are fractions of the image.
    """
    path = Path(path)
    content = read_content(path, WHAT)
    if isinstance(content, Table):
        found = _from_table(content)
    elif isinstance(content, list):
        found = _from_coco(path, content, truth)
    elif isinstance(content, dict) and content.get("format") == FORMAT:
        found = _from_own(path, content.get("images"))
    else:
        raise InputError(f"{path}: {_kind(content)}; give {WHAT}")
    check_pixels(path, found.values[:, :4])
    index_of = _places_in(truth, found.places)
    if unknown := [name for name in found.places if name not in index_of]:
        not_counted = _not_counted(truth)
        for name in unknown:
            if _in_a_row(name) not in not_counted:
                raise InputError(f"{path}, {found.places[name]}: {_stranger(name, truth)}")
    image = np.array([index_of.get(name, -1) for name in found.names], dtype=np.int64)
    order = np.argsort(image, kind="stable")
    bounds = np.searchsorted(image[order], np.arange(len(truth.file_names) + 1)).tolist()
    return [found.values[order[a:b]] for a, b in pairwise(bounds)]


def _places_in(truth: Truth, names: Iterable[str]) -> dict[str, int]:
    """Which of the truth's images each name means; unknown ones are left out."""
    same = {name: index for index, name in enumerate(truth.file_names)}
    in_a_row = {_in_a_row(name): index for name, index in same.items()}
    places = {name: same.get(name, in_a_row.get(_in_a_row(name))) for name in names}
    return {name: index for name, index in places.items() if index is not None}


def _in_a_row(name: str) -> str:
    """DL_info.csv's name of a slice that is named as on a disk; other names as they are."""
    return _ON_DISK.sub(r"\1_\2", name)


def _kind(content: object) -> str:
    if isinstance(content, dict):
        if str(content.get("format")).startswith("lesionkit-detections-"):
            return "what lesionkit detect found in one scan"
        if "annotations" in content:
            return "COCO annotations, which are ground truth"
    return "JSON, but no detections that are known here"


def _stranger(name: str, truth: Truth) -> str:
    of_split = f"split {truth.split} of " if truth.split not in (None, "all") else ""
    by = "" if truth.split_file is None else f" by {truth.split_file}"
    other = "correct the name" if truth.split is None else "choose another --split"
    return (
        f"image {name!r} is not in {of_split}{truth.path}{by}, whose images have names such as "
        f"{truth.file_names[0]!r}; {other}, or leave its boxes out"
    )


def _not_counted(truth: Truth) -> set[str]:
    """The images of DL_info.csv's split that have only boxes marked possibly noisy."""
    if truth.records is None:
        return set()
    from lesionkit.data.deeplesion import DeepLesion

    split = None if truth.split == "all" else truth.split
    every = DeepLesion(
        truth.path.parent,
        split=split,
        drop_noisy=False,
        csv=truth.path,
        split_file=truth.split_file,
    )
    return {record.file_name for record in every} - set(truth.file_names)


@dataclass(frozen=True, eq=False)
class _Found:
    """values: [N, 5] of all boxes. names: the image of each. places: where in the file each image
    is named first, those without boxes too.
    """

    values: np.ndarray
    names: list[str]
    places: dict[str, str]


def _from_table(table: Table) -> _Found:
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise InputError(
            f"{table.path}, line 1: no column {', '.join(missing)} in the header; give {WHAT}"
        )
    names, values, places = [], [np.empty(0)], {}
    for line, (name, *texts) in table.rows(COLUMNS):
        places.setdefault(name, f"line {line}")
        names.append(name)
        values.append(numbers(table.path, line, COLUMNS[1:], texts))
        check_corners(values[-1], f"{table.path}, line {line}")
    return _Found(np.concatenate(values).reshape(-1, 5), names, places)


def _from_own(path: Path, images: object) -> _Found:
    if not isinstance(images, list):
        raise InputError(f'{path}: "images" must be a list; write it as lesionkit eval does')
    names, values, places = [], [np.empty((0, 5))], {}
    for index, image in enumerate(images):
        where = f"{path}, images[{index}]"
        name = image.get("file_name") if isinstance(image, dict) else None
        if not isinstance(name, str):
            raise InputError(f"{where}: must be an object with file_name, boxes and scores")
        if name in places:
            raise InputError(f"{where}: {name} is in {places[name]} too; keep one of them")
        places[name] = f"images[{index}]"
        try:
            values.append(as_detections(image, name))
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{where}: {error}; correct it") from error
        values_in_it = (*chain.from_iterable(image["boxes"]), *image["scores"])
        if wrong := [value for value in values_in_it if not is_number(value)]:
            raise InputError(f"{where}: boxes and scores must be numbers, got {wrong[0]!r}")
        names += [name] * len(values[-1])
        for box in values[-1].tolist():
            check_corners(box, where)
    return _Found(np.concatenate(values), names, places)


def _from_coco(path: Path, results: list, truth: Truth) -> _Found:
    boxes = coco_boxes(results, "entries", path)
    names, scores, places = [], [], {}
    for index, result in enumerate(results):
        where = f"entries[{index}]"
        if not is_number(score := result.get("score")):
            raise InputError(f"{path}, {where}: score must be a finite number, got {score!r}")
        name = _coco_image(result.get("image_id"), f"{path}, {where}", truth)
        places.setdefault(name, where)
        names.append(name)
        scores.append(score)
    return _Found(np.column_stack([boxes, scores]), names, places)


def _coco_image(identity: object, where: str, truth: Truth) -> str:
    """The file name of the image that a result is of."""
    if not is_identity(identity):
        raise InputError(f"{where}: image_id must be a whole number or text, got {identity!r}")
    if identity in truth.image_ids:
        return truth.file_names[truth.image_ids[identity]]
    if isinstance(identity, str) and not (truth.image_ids and identity.isdecimal()):
        return identity
    if identity in truth.file_names:
        return identity
    check_type(identity, truth.image_ids, where, truth.path)
    remedy = "name images by file_name or give the COCO annotations as truth"
    if truth.image_ids:
        remedy = "correct it or give the annotations that it belongs to"
    raise InputError(f"{where}: image_id {identity!r} is not in {truth.path}; {remedy}")
