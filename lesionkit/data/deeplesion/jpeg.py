"""Key slices as 8-bit JPEG files with text files of boxes, turned into DeepLesion's own form.

``NAME_NNN.jpg`` is 512 x 512 grey, -1024 HU at 0 and 3071 HU at 255: steps of 16 HU. Beside it,
``NAME_NNN.tru`` has a line for each lesion, ``type ymin xmin ymax xmax``: the type as DeepLesion
counts them, and DeepLesion's box (pixels counted from 1) divided by the image's height and width.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lesionkit.data.deeplesion.dl_info import write_dl_info
from lesionkit.data.deeplesion.lesions import LESION_TYPES, SPLITS
from lesionkit.data.deeplesion.slices import HU_OFFSET, slice_path
from lesionkit.data.volume import PIXEL_MM, check_volume_size
from lesionkit.errors import InputError
from lesionkit.files import atomic_write

WINDOW = (-1024, 3071)  # HU
PIXEL_SPACING = 0.8  # mm: DeepLesion's median is 0.82
_NAME = re.compile(r"((\d+)_(\d+)_(\d+))_(\d{3,6})\.jpe?g")
_NAN = float("nan")


def convert_jpeg(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    pixel_spacing: float = PIXEL_SPACING,
    train: int | None = None,
    test: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Write ``Images_png`` and ``DL_info.csv`` into ``out``; the images of each split.

    What the files do not say is unknown in the table: axes, diameters, location, window and age are
    NaN, the gender is empty, the slice interval is NaN (samples repeat the key slice), and
    Slice_range is the key slice alone.

    Args:
        source: folder of the JPEG files, named <patient>_<study>_<series>_<slice>.jpg.
        out: folder without a data set; it is made if needed.
        pixel_spacing: mm a pixel, for all images.
        train, test: how many images this split has, the rest is the other one; by default all are
            for training. Test images are those of whole patients, drawn at random, if such numbers
            add up; otherwise images are drawn, and a patient may be on both sides.
        seed: of the draw.
        progress: called with (images done, images in all).

    Raises:
        InputError: no such files, an image without its boxes, or a wrong line (it is named).
    """
    source, out = Path(source), Path(out)
    least, most = PIXEL_MM
    if not least <= pixel_spacing <= most:
        raise InputError(f"pixel_spacing must be {least:g} to {most:g} mm, got {pixel_spacing}")
    if not source.is_dir():
        raise InputError(f"{source}: not a folder; give the folder of the JPEG files")
    paths = sorted(path for path in source.iterdir() if _NAME.fullmatch(path.name))
    if not paths:
        raise InputError(
            f"{source}: no JPEG files named as DeepLesion's slices, such as 000001_01_01_109.jpg"
        )
    for path in (out / "DL_info.csv", out / "Images_png"):
        if os.path.lexists(path):
            raise InputError(f"{path} is there already; name another folder or remove it")

    boxes = {path: _read_boxes(path.with_suffix(".tru")) for path in paths}
    patients = np.array([int(_NAME.fullmatch(path.name)[2]) for path in paths])
    splits = _splits(patients, train, test, seed)
    rows = []
    for done, (path, split) in enumerate(zip(paths, splits, strict=True), 1):
        folder, *ids, number = _NAME.fullmatch(path.name).groups()
        hu = read_jpeg(path)
        _write_slice(slice_path(out / "Images_png" / folder, int(number)), hu)
        for lesion_type, box in boxes[path]:
            rows.append(_row(folder, ids, int(number), hu.shape, lesion_type, box, pixel_spacing))
            rows[-1]["Train_Val_Test"] = split
        if progress:
            progress(done, len(paths))
    write_dl_info(out / "DL_info.csv", rows)
    return {name: splits.count(number) for name, number in SPLITS.items() if number in splits}


def read_jpeg(path: str | os.PathLike) -> np.ndarray:
    """int16 HU [H, W] of an 8-bit JPEG file of -1024..3071 HU, rounded to whole HU."""
    from PIL import Image

    try:
        with Image.open(path, formats=("JPEG",)) as image:
            check_volume_size(str(path), *image.size, 1)
            grey = np.asarray(image.convert("L"))
    except InputError:
        raise
    except Exception as error:  # Pillow raises many types on damaged files
        raise InputError(f"{path}: not a readable JPEG ({error}); fetch it again") from error
    low, high = WINDOW
    return np.rint(low + grey * ((high - low) / 255)).astype(np.int16)


def _read_boxes(path: Path) -> list[tuple[int, tuple[float, ...]]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the boxes of the image beside it; {error}") from error
    boxes = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            label, *fractions = line.split()
            lesion_type, (top, left, bottom, right) = int(label), map(float, fractions)
            is_box = 0 <= top < bottom <= 1 and 0 <= left < right <= 1
        except ValueError:
            is_box = False
        if not is_box or lesion_type not in LESION_TYPES:
            raise InputError(
                f"{path}, line {number}: {line!r} is not `type ymin xmin ymax xmax` with a type "
                "1..8 or -1 and fractions 0..1"
            )
        boxes.append((lesion_type, (left, top, right, bottom)))
    if not boxes:
        raise InputError(f"{path}: no box; remove the image, or give its boxes")
    return boxes


def _splits(patients: np.ndarray, train: int | None, test: int | None, seed: int) -> list[int]:
    """1 or 3 for each image; ``patients`` [n] says whose it is."""
    for name, number in (("train", train), ("test", test)):
        if number is not None and not 0 <= number <= len(patients):
            raise InputError(
                f"{name} must be 0..{len(patients)}, the number of images, got {number}"
            )
    held_out = (test or 0) if train is None else len(patients) - train
    rng = np.random.default_rng(seed)
    known, counts = np.unique(patients, return_counts=True)
    whole = {0: ()}  # by number of images, patients that have as many
    for patient in rng.permutation(len(known)):
        for number in sorted(whole, reverse=True):
            together = number + int(counts[patient])
            if together <= held_out:
                whole.setdefault(together, (*whole[number], known[patient]))
    is_test = np.isin(patients, whole.get(held_out, ()))
    if held_out not in whole:
        is_test[rng.permutation(len(patients))[:held_out]] = True
    return np.where(is_test, SPLITS["test"], SPLITS["train"]).tolist()


def _write_slice(path: Path, hu: np.ndarray) -> None:
    from PIL import Image

    with atomic_write(path) as temporary:
        raw = (hu.astype(np.int32) + HU_OFFSET).astype(np.uint16)
        Image.fromarray(raw).save(temporary, compress_level=1)


def _row(
    folder: str,
    ids: list[str],
    number: int,
    shape: tuple[int, int],
    lesion_type: int,
    box: tuple[float, ...],
    spacing: float,
) -> dict[str, object]:
    height, width = shape
    patient, study, series = map(int, ids)
    # The fractions are of DeepLesion's own coordinates, which count pixels from 1.
    corners = np.array(box) * (width, height, width, height)
    return {
        "File_name": f"{folder}_{number:03d}.png",
        "Patient_index": patient,
        "Study_index": study,
        "Series_ID": series,
        "Key_slice_index": number,
        "Measurement_coordinates": (_NAN,) * 8,
        "Bounding_boxes": corners,
        "Lesion_diameters_Pixel_": (_NAN,) * 2,
        "Normalized_lesion_location": (_NAN,) * 3,
        "Coarse_lesion_type": lesion_type,
        "Possibly_noisy": 0,
        "Slice_range": (number, number),
        "Spacing_mm_px_": (spacing, spacing, _NAN),
        "Image_size": (width, height),
        "DICOM_windows": (_NAN,) * 2,
        "Patient_gender": "",
        "Patient_age": _NAN,
    }
