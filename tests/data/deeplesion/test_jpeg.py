import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lesionkit.data import DeepLesion, Preprocessing, prepare_key_slice
from lesionkit.data.deeplesion import read_dl_info
from lesionkit.data.deeplesion.check import check_deeplesion
from lesionkit.data.deeplesion.jpeg import convert_jpeg, read_jpeg
from lesionkit.errors import InputError

SHARED = os.environ.get("LESIONKIT_SHARED_DATA")


def write(folder, name, grey, boxes="  3   0.25   0.5   0.5   0.75\n"):
    folder.mkdir(exist_ok=True)
    Image.fromarray(grey.astype(np.uint8)).convert("RGB").save(folder / f"{name}.jpg", quality=100)
    (folder / f"{name}.tru").write_text(boxes)


@pytest.fixture
def source(tmp_path):
    """Seven flat images: three patients with 2, 2 and 3."""
    for patient, count in ((1, 2), (2, 2), (5, 3)):
        for number in range(1, count + 1):
            name = f"{patient:06d}_01_01_{number:03d}"
            write(tmp_path / "jpeg", name, np.full((64, 80), 50 * number))
    return tmp_path / "jpeg"


def test_pixels_and_rows(tmp_path):
    grey = np.zeros((64, 80))
    grey[16:32, 40:60] = 200
    lesions = "  3   0.25   0.5   0.5   0.75\n\n -1 0 0 1 1\n"
    write(tmp_path / "jpeg", "000012_03_02_104", grey, lesions)
    assert convert_jpeg(tmp_path / "jpeg", tmp_path / "out") == {"train": 1}
    dataset = DeepLesion(tmp_path / "out", split="train")
    (record,) = dataset
    hu = dataset.read_slice(record, 104).astype(int) - 32768
    # Grey g is -1024 + g * 4095 / 255 HU; JPEG itself is off by a few greys near edges.
    assert hu[5, 5] == -1024
    assert hu[24, 50] == pytest.approx(-1024 + 200 * 4095 / 255, abs=40)
    first, second = record.lesions
    # DeepLesion counts pixels from 1 and has x before y.
    assert first.box == pytest.approx((39, 15, 59, 31))
    assert second.box == (-1, -1, 79, 63)
    assert (first.lesion_type, second.lesion_type) == (3, -1)
    assert (first.patient, first.study, first.series, first.key_slice) == (12, 3, 2, 104)
    assert first.file_name == "000012_03_02_104.png"
    assert (first.image_size, first.slice_range, first.gender) == ((80, 64), (104, 104), "")
    assert first.spacing[:2] == (0.8, 0.8)
    assert np.isnan([first.interval, first.age, first.diameter_mm(), *first.measurement]).all()
    # The interval is unknown, so that a sample has the key slice alone.
    images, _ = prepare_key_slice(dataset, record, Preprocessing(num_images=3, crop=False))
    assert images.shape == (3, 3, 64, 80)
    assert (images == images[1, 1]).all()
    (warning,) = check_deeplesion(tmp_path / "out").problems
    assert "interval is unknown" in warning.message


def splits(out):
    table = read_dl_info(out / "DL_info.csv")
    names = {1: "train", 3: "test"}
    return {lesion.file_name: names[lesion.split] for lesion in table}


@pytest.mark.parametrize("options", [{"test": 4}, {"train": 3}])
def test_whole_patients_are_held_out_if_their_images_add_up(source, tmp_path, options):
    assert convert_jpeg(source, tmp_path / "out", **options) == {"train": 3, "test": 4}
    held_out = {name[:6] for name, split in splits(tmp_path / "out").items() if split == "test"}
    assert held_out == {"000001", "000002"}


def test_otherwise_images_are(source, tmp_path):
    drawn = []
    for seed in (0, 0, 1, 2):
        out = tmp_path / f"out{len(drawn)}"
        assert convert_jpeg(source, out, test=1, seed=seed) == {"train": 6, "test": 1}
        drawn.append(splits(out))
    assert drawn[0] == drawn[1]
    assert len({str(draw) for draw in drawn}) > 1
    assert convert_jpeg(source, tmp_path / "all", train=0) == {"test": 7}


def test_pixel_spacing(source, tmp_path):
    convert_jpeg(source, tmp_path / "out", pixel_spacing=0.7)
    assert DeepLesion(tmp_path / "out")[0].spacing[:2] == (0.7, 0.7)


@pytest.mark.parametrize(
    "text",
    ["", "\n", "3 0.1 0.2 0.3", "9 .1 .1 .2 .2", "3 .2 .1 .1 .2", "3 .1 .1 .2 1.1", "3 nan 0 1 1",
     "x 0 0 1 1", "3 0 0 1 1 1"],
)  # fmt: skip
def test_wrong_boxes_are_refused(source, tmp_path, text):
    path = source / "000005_01_01_002.tru"
    path.write_text(text)
    with pytest.raises(InputError, match=str(path)):
        convert_jpeg(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_input_is_refused(source, tmp_path):
    for name in ("train", "test"):
        with pytest.raises(InputError, match=rf"{name} must be 0\.\.7.*got 8"):
            convert_jpeg(source, tmp_path / "out", **{name: 8})
    with pytest.raises(InputError, match="pixel_spacing must be"):
        convert_jpeg(source, tmp_path / "out", pixel_spacing=float("nan"))
    with pytest.raises(InputError, match="not a folder"):
        convert_jpeg(source / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no JPEG files named as"):
        convert_jpeg(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "DL_info.csv").touch()
    with pytest.raises(InputError, match="is there already"):
        convert_jpeg(source, tmp_path / "out")


@pytest.mark.parametrize("kept", [0, 20, 300])
def test_damaged_jpeg(source, tmp_path, kept):
    path = source / "000001_01_01_001.jpg"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=f"{path}: not a readable JPEG"):
        convert_jpeg(source, tmp_path / "out")


@pytest.mark.skipif(not SHARED, reason="LESIONKIT_SHARED_DATA is not set")
def test_real_slices_have_the_official_boxes(tmp_path):
    """13 of the 45 images are in the official test split."""
    source = Path(SHARED) / "deeplesion_jpeg"
    assert convert_jpeg(source, tmp_path, train=40) == {"train": 40, "test": 5}
    official = DeepLesion(SHARED, csv=Path(SHARED) / "DL_info_test.csv")
    boxes = {record.file_name: record.boxes for record in official}
    types = {record.file_name: record.lesions[0].lesion_type for record in official}
    compared = 0
    for record in DeepLesion(tmp_path):
        if record.file_name in boxes:
            apart = np.abs(record.boxes[:, None] - boxes[record.file_name]).max(2)  # each to each
            assert apart.min(axis=0).max() < 0.03  # 4 digits of 512 pixels
            assert record.lesions[0].lesion_type == types[record.file_name]
            compared += len(apart)
    assert compared == 13
    hu = read_jpeg(source / "000001_01_01_109.jpg")
    assert hu.shape == (512, 512)
    assert -1024 == hu.min() < hu.max() <= 3071
