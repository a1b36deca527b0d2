"""Synthetic DeepLesion: a data set of phantom CT in DeepLesion's own on-disk format."""

import os
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from lesionkit.data.deeplesion.dl_info import write_dl_info
from lesionkit.data.deeplesion.slices import HU_OFFSET, slice_path
from lesionkit.data.synthetic.findings import Finding
from lesionkit.data.synthetic.patient import SyntheticSeries, generate_patient
from lesionkit.errors import InputError
from lesionkit.files import atomic_write
from lesionkit.processes import map_in_processes

MIN_PATIENTS = 3  # one for each split
MAX_PATIENTS = 999_999  # what the six digits in DeepLesion's file names can count
BOX_PADDING = 5.0  # pixels around the ends of the two axes, at every image size, as in DeepLesion
TORSO = 580.0  # mm from the top of the lungs to the hips
_MEMORY = "ask for smaller images, or close other programs"
WINDOWS = {1: (-500, 1300), 3: (-175, 275), 5: (-1500, 500)}  # by lesion type, HU


def synthesize(
    out: str | os.PathLike,
    patients: int,
    seed: int = 0,
    image_size: int = 512,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
    held_out: tuple[float, float] = (0.15, 0.15),
) -> None:
    """Write ``patients`` synthetic patients as DeepLesion has its real ones.

    ``out/Images_png/<patient_study_series>/NNN.png`` hold HU + 32768 in 16 bits;
    ``out/DL_info.csv``, written last, has a row per lesion. The same arguments give the same
    bytes, whatever ``workers``.

    Args:
        out: a folder without DL_info.csv and Images_png; it is made if needed.
        patients: at least 3; each has two or three key slices.
        seed: a non-negative integer.
        image_size: pixels per side, a multiple of 8 in 64..1024. The field of view stays the same.
        progress: called with (patients done, patients in all).
        workers: processes; by default 2, or 1 for a few patients or on a single core. More than
            one are spawned, so a script must call this under ``if __name__ == "__main__"``.
        held_out: shares of the patients for validation and for test; each split has at least one.

    Raises:
        InputError: ``out`` holds a data set, or a number is out of its range.
        ChildProcessError: a worker process was killed.
    """
    out = Path(out)
    if not MIN_PATIENTS <= patients <= MAX_PATIENTS:
        raise InputError(
            f"patients must be in {MIN_PATIENTS}..{MAX_PATIENTS}, at least one for each split, "
            f"got {patients}"
        )
    if seed < 0:
        raise InputError(f"seed must not be negative, got {seed}")
    if image_size % 8 or not 64 <= image_size <= 1024:
        raise InputError(f"image_size must be a multiple of 8 in 64..1024, got {image_size}")
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}")
    if min(held_out) < 0 or sum(held_out) >= 1:
        raise InputError(f"held_out must be two shares that leave some to train on, got {held_out}")
    for path in (out / "DL_info.csv", out / "Images_png"):
        if os.path.lexists(path):
            raise InputError(f"{path} is there already; name another folder or remove it")
    if workers is None:  # a process takes as long to start as a few patients to make
        workers = max(1, min(2, os.cpu_count() or 1, patients // 8))

    write = partial(_write_patient, out / "Images_png", seed, image_size)
    numbers = range(1, patients + 1)
    rows: list[dict[str, object]] = []
    if workers == 1:
        results = map(write, numbers)
        _collect(rows, results, patients, progress)
    else:
        with map_in_processes(write, numbers, min(workers, patients), _MEMORY) as results:
            _collect(rows, results, patients, progress)
    splits = _splits(patients, seed, held_out)
    for row in rows:
        row["Train_Val_Test"] = splits[row["Patient_index"] - 1]
    write_dl_info(out / "DL_info.csv", rows)


def _collect(
    rows: list[dict[str, object]],
    results: Iterable[list[dict[str, object]]],
    patients: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    for done, patient_rows in enumerate(results, 1):
        rows += patient_rows
        if progress:
            progress(done, patients)


def _splits(patients: int, seed: int, held_out: tuple[float, float]) -> list[int]:
    """1, 2 or 3 (train, val, test) for each patient."""
    val = min(max(1, round(held_out[0] * patients)), patients - 2)
    test = min(max(1, round(held_out[1] * patients)), patients - val - 1)
    splits = np.ones(patients, dtype=int)
    splits[:val], splits[val : val + test] = 2, 3
    # Patients' own streams have spawn keys from 1 on.
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    return rng.permutation(splits).tolist()


def _write_patient(
    images: Path, seed: int, image_size: int, patient: int
) -> list[dict[str, object]]:
    """Write the slices of one patient; give the rows of its lesions, but for the split."""
    from PIL import Image

    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(patient, 1)))
    person = {"Patient_gender": "MF"[rng.integers(2)], "Patient_age": float(rng.integers(20, 88))}
    rows = []
    for series in generate_patient(patient, seed, image_size):
        folder = f"{patient:06d}_{series.study:02d}_{series.series:02d}"
        raw = (series.hu.astype(np.int32) + HU_OFFSET).astype(np.uint16)
        for number, picture in enumerate(raw, series.first_slice):
            with atomic_write(slice_path(images / folder, number)) as path:
                # Run lengths alone: a third faster than matching, and noise has no matches.
                Image.fromarray(picture).save(path, compress_level=1, compress_type=zlib.Z_RLE)
        rows += [
            {"Patient_index": patient, **_row(series, folder, lesion), **person}
            for lesion in sorted(series.lesions, key=lambda lesion: lesion.key_slice)
        ]
    return rows


def _row(series: SyntheticSeries, folder: str, lesion: Finding) -> dict[str, object]:
    _, height, width = series.hu.shape
    axes = recist_axes(series.to_pixels(lesion.key.outline(np.linspace(0, 2 * np.pi, 181)[:-1])))
    low, high = axes.min(axis=0) - BOX_PADDING, axes.max(axis=0) + BOX_PADDING
    lengths = np.hypot(*(axes[0::2] - axes[1::2]).T)
    around = np.array([lesion.key.x, lesion.key.y]) / series.body
    return {
        "File_name": f"{folder}_{lesion.key_slice:03d}.png",
        "Study_index": series.study,
        "Series_ID": series.series,
        "Key_slice_index": lesion.key_slice,
        "Measurement_coordinates": axes.ravel() + 1,  # the file counts pixels from 1
        "Bounding_boxes": np.concatenate([low, high]) + 1,
        "Lesion_diameters_Pixel_": lengths,
        "Normalized_lesion_location": (*(around / 2 + 0.5), np.clip(lesion.key_z / TORSO, 0, 1)),
        "Coarse_lesion_type": lesion.lesion_type,
        "Possibly_noisy": 0,
        "Slice_range": (series.first_slice, series.first_slice + len(series.hu) - 1),
        "Spacing_mm_px_": series.spacing,
        "Image_size": (width, height),
        "DICOM_windows": WINDOWS.get(lesion.lesion_type, (-175, 275)),
    }


def recist_axes(outline: np.ndarray) -> np.ndarray:
    """[4, 2]: the ends of a closed outline's longest chord, then of the longest one across it.

    outline: [n, 2] points in order.
    """
    apart = np.hypot(*(outline[:, None] - outline[None]).transpose(2, 0, 1))
    first, second = np.unravel_index(apart.argmax(), apart.shape)
    along = (outline[second] - outline[first]) / apart[first, second]
    across = np.array([-along[1], along[0]])
    place, height = (outline - outline[first]) @ along, (outline - outline[first]) @ across
    sides = []
    steps = np.linspace(0, apart[first, second], 200)
    for side in (height >= 0, height <= 0):
        order = np.argsort(place[side])
        sides.append(np.interp(steps, place[side][order], height[side][order]))
    best = np.argmax(sides[0] - sides[1])
    ends = [outline[first] + steps[best] * along + side[best] * across for side in sides]
    return np.array([outline[first], outline[second], *ends])
