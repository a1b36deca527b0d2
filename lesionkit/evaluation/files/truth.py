"""Ground truth from a file."""

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lesionkit.errors import InputError
from lesionkit.evaluation.files.content import (
    COORDINATES,
    Table,
    check_corners,
    check_pixels,
    check_type,
    coco_boxes,
    is_identity,
    numbers,
    read_content,
)

if TYPE_CHECKING:
    from lesionkit.data.deeplesion import KeySlice

WHAT = "ground truth (DL_info.csv, COCO annotations, or CSV with file_name,x1,y1,x2,y2)"
_IN_PIXELS = "give pixels, no fractions of the image, or remove it"
_OF_DL_INFO = ("file_name", "bounding_boxes")
_KEEP_ONE = "it would count twice, so remove one of them"


@dataclass(frozen=True, eq=False)
class Truth:
    """The images to evaluate on and their lesions.

    Attributes:
        path: the file.
        file_names: of the images.
        boxes: for each image [g, 4] float64 xyxy, 0-based pixels, inclusive ends.
        patients: [I] who each image is of, None where the file does not say.
        records: DeepLesion's records of the images, None for other formats.
        image_ids: COCO's image ids and the places of their images; empty for other formats.
        split: of DL_info.csv, "all" for all of it.
        split_file: the file that says what is in it, if DL_info.csv itself does not.
    """

    path: Path
    file_names: tuple[str, ...]
    boxes: tuple[np.ndarray, ...]
    patients: np.ndarray | None = None
    records: "tuple[KeySlice, ...] | None" = None
    image_ids: dict[Hashable, int] = field(default_factory=dict)
    split: str | None = None
    split_file: Path | None = None


def read_truth(
    path: str | os.PathLike, split: str = "test", split_file: str | os.PathLike | None = None
) -> Truth:
    """Ground truth from a file, whose format is told by its content:

    - DeepLesion's DL_info.csv: the images of ``split``, without boxes marked possibly noisy and
      then without images that have no others, as in 3DCE. A row that is there twice counts twice,
      as there; `lesionkit froc` and `lesionkit data check` say so.
    - COCO annotations: every image of "images" and the "bbox" (x, y, width, height) of its
      annotations, of whatever category; "patient" or "patient_id" of an image says who it is of.
    - CSV with the columns file_name,x1,y1,x2,y2 (0-based, inclusive ends) and, if known, patient.
      An image without lesions is a row without coordinates.

    Args:
        path: the file.
        split: "train", "val", "test" or "all"; for DL_info.csv alone.
        split_file: splits of one's own, as ``DeepLesion`` takes them; for DL_info.csv alone.

    Raises:
        InputError: the file is none of these, or an entry is wrong or there twice (the line or
            entry is named), or there is no lesion, or all boxes are fractions of the image.
    """
    path = Path(path)
    content = read_content(path, WHAT)
    is_dl_info = isinstance(content, Table) and set(_OF_DL_INFO) <= set(content.columns)
    if split_file is not None and not is_dl_info:
        raise InputError(f"{split_file}: splits are for DL_info.csv, which {path} is not")
    if is_dl_info:
        truth = _from_dl_info(path, split, split_file)
    elif isinstance(content, Table):
        truth = _from_table(content)
    elif isinstance(content, dict) and {"images", "annotations"} <= set(content):
        truth = _from_coco(path, content)
    else:
        raise InputError(f"{path}: JSON, but not COCO annotations; give {WHAT}")
    if not any(map(len, truth.boxes)):
        raise InputError(
            f"{path}: no lesion in it{_of_split(truth)}, so sensitivity is undefined; give {WHAT}"
        )
    check_pixels(path, np.concatenate(truth.boxes))
    return truth


def _of_split(truth: Truth) -> str:
    split = "" if truth.split in (None, "all") else f" of split {truth.split} (--split)"
    return split + ("" if truth.split_file is None else f" by {truth.split_file}")


def _from_table(table: Table) -> Truth:
    missing = [name for name in ("file_name", *COORDINATES) if name not in table.columns]
    if missing:
        raise InputError(
            f"{table.path}, line 1: no column {', '.join(missing)} in the header; give {WHAT}"
        )
    if "score" in table.columns:
        raise InputError(f"{table.path}: has scores, so it holds detections; give {WHAT}")
    has_patient = "patient" in table.columns
    boxes: dict[str, list[tuple[float, ...]]] = {}
    patients: dict[str, str] = {}
    lines: dict[tuple[str, tuple[float, ...]], int] = {}
    for line, (name, *values) in table.rows(
        ["file_name", *COORDINATES, *(["patient"] if has_patient else [])]
    ):
        where = f"{table.path}, line {line}"
        patient = values.pop() if has_patient else ""
        if not name or (has_patient and not patient):
            raise InputError(f"{where}: file_name or patient is empty; fill it in")
        if patients.setdefault(name, patient) != patient:
            raise InputError(f"{where}: {name} is of patient {patients[name]} above; correct one")
        own = boxes.setdefault(name, [])
        box = tuple(numbers(table.path, line, COORDINATES, values)) if any(values) else ()
        if above := lines.get((name, box)):
            what = "with the same box" if box else "without a box"
            raise InputError(f"{where}: {name} {what}, as in line {above}; {_KEEP_ONE}")
        if (own and not box) or (name, ()) in lines:
            raise InputError(
                f"{where}: {name} has a row with a box and one without, which says that it has no "
                "lesion; remove one of them"
            )
        lines[name, box] = line
        if box:
            check_corners(box, where)
            x1, y1, x2, y2 = box
            if x2 < x1 or y2 < y1:
                raise InputError(f"{where}: box {list(box)} has less than a pixel; {_IN_PIXELS}")
            own.append(box)
    return Truth(
        path=table.path,
        file_names=tuple(boxes),
        boxes=tuple(np.array(own).reshape(-1, 4) for own in boxes.values()),
        patients=np.array(list(patients.values())) if has_patient else None,
    )


def _from_dl_info(path: Path, split: str, split_file: str | os.PathLike | None) -> Truth:
    from lesionkit.data.deeplesion import DeepLesion

    dataset = DeepLesion(
        path.parent, split=None if split == "all" else split, csv=path, split_file=split_file
    )
    records = tuple(dataset)
    return Truth(
        path=path,
        file_names=tuple(record.file_name for record in records),
        boxes=tuple(record.boxes.astype(np.float64) for record in records),
        patients=np.array([record.patient for record in records]),
        records=records,
        split=split,
        split_file=None if split_file is None else Path(split_file),
    )


def _from_coco(path: Path, content: dict) -> Truth:
    images, annotations = content["images"], content["annotations"]
    for name, entries in (("images", images), ("annotations", annotations)):
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InputError(f'{path}: "{name}" must be a list of objects; write it as COCO has it')
    places: dict[Hashable, int] = {}
    names: dict[str, int] = {}
    for index, image in enumerate(images):
        identity, name = image.get("id"), image.get("file_name")
        where = f"{path}, images[{index}]"
        if not is_identity(identity) or not isinstance(name, str) or not name:
            raise InputError(
                f"{where}: must have an id, a whole number or text, and a file_name, got "
                f"{identity!r} and {name!r}"
            )
        if identity in places or name in names:
            raise InputError(f"{where}: id {identity!r} or file_name {name!r} is there twice")
        places[identity] = names[name] = index
    corners = coco_boxes(annotations, "annotations", path)
    boxes: list[list[np.ndarray]] = [[] for _ in images]
    first: dict[tuple, int] = {}
    for index, (annotation, box) in enumerate(zip(annotations, corners, strict=True)):
        where, image = f"{path}, annotations[{index}]", annotation.get("image_id")
        if not is_identity(image):
            raise InputError(f"{where}: image_id must be a whole number or text, got {image!r}")
        if image not in places:
            check_type(image, places, where, path)
            raise InputError(
                f"{where}: image_id {image!r} is the id of none of the images; correct it or add "
                "the image"
            )
        if annotation.get("iscrowd"):
            raise InputError(f"{where}: is a crowd, which FROC has no place for; remove it")
        if min(annotation["bbox"][2:]) < 1:
            raise InputError(
                f"{where}: box {annotation['bbox']} has less than a pixel; {_IN_PIXELS}"
            )
        same = first.setdefault((image, *box.tolist()), index)
        if same != index:
            raise InputError(f"{where}: the same box as annotations[{same}]; {_KEEP_ONE}")
        boxes[places[image]].append(box)
    return Truth(
        path=path,
        file_names=tuple(names),
        boxes=tuple(np.array(own).reshape(-1, 4) for own in boxes),
        patients=_coco_patients(path, images),
        image_ids=places,
    )


def _coco_patients(path: Path, images: Sequence[dict]) -> np.ndarray | None:
    for key in ("patient", "patient_id"):
        patients = [image.get(key) for image in images]
        if all(patient is None for patient in patients):
            continue
        for index, patient in enumerate(patients):
            if not is_identity(patient):
                raise InputError(
                    f"{path}, images[{index}]: {key} must be a whole number or text, as it is of "
                    f"other images, got {patient!r}"
                )
        return np.array([str(patient) for patient in patients])
    return None
