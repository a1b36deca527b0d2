import gzip
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from lesionkit.data import DeepLesion, Preprocessing, prepare_key_slice, read_ct, write_dl_info
from lesionkit.data.images import read_image
from lesionkit.errors import InputError

from .files import row, write_nifti, write_slices

SPACING = (0.8125, 0.8125, 5.0)


@pytest.fixture
def hu():
    return np.random.default_rng(5).integers(-2000, 3000, (5, 60, 50)).astype(np.int16)


@pytest.fixture
def root(tmp_path, hu):
    write_nifti(tmp_path / "Images_nifti" / "000001_01_02_008-012.nii.gz", hu, SPACING)
    write_dl_info(tmp_path / "DL_info.csv", [row()])
    return tmp_path


def test_slices_by_number(root, hu):
    found = DeepLesion(root)
    for number, plane in enumerate(hu, 8):
        raw = found.read_slice(found[0], number)
        assert raw.dtype == np.uint16
        np.testing.assert_array_equal(raw.astype(np.int32) - 32768, plane)
    for absent in (7, 13, -1, 10**9):
        assert found.read_slice(found[0], absent) is None


@pytest.mark.parametrize("interval", [5.0, -5.0])  # the sign turns DL_save_nifti.py's affine round
@pytest.mark.parametrize("kind", [np.int16, np.float64])  # which it writes from 300 slices on
def test_orientation_and_type(root, hu, interval, kind):
    spacing = (*SPACING[:2], interval)
    write_dl_info(root / "DL_info.csv", [row(Spacing_mm_px_=spacing)])
    path = root / "Images_nifti" / "000001_01_02_008-012.nii.gz"
    write_nifti(path, hu.astype(kind), spacing)
    found = DeepLesion(root)
    np.testing.assert_array_equal(found.read_slice(found[0], 9).astype(np.int32) - 32768, hu[1])


def test_the_same_samples_as_from_png(root, hu, tmp_path):
    write_slices(tmp_path / "png" / "Images_png" / "000001_01_02", hu)
    write_dl_info(tmp_path / "png" / "DL_info.csv", [row()])
    preprocessing = Preprocessing(crop=False)
    samples = []
    for folder in (root, tmp_path / "png"):
        found = DeepLesion(folder)
        samples.append(prepare_key_slice(found, found[0], preprocessing))
    assert torch.equal(samples[0][0], samples[1][0])
    assert samples[0][1] == samples[1][1]


def test_a_volume_read_by_itself_is_the_right_way_round(root, hu):
    volume = read_ct(root / "Images_nifti" / "000001_01_02_008-012.nii.gz")
    np.testing.assert_array_equal(volume.hu, hu[::-1])  # from feet to head
    assert volume.spacing == SPACING
    np.testing.assert_array_equal(volume.direction, np.eye(3))


def test_png_goes_before_nifti(root, hu):
    write_slices(root / "Images_png" / "000001_01_02", hu[::-1])
    found = DeepLesion(root)
    np.testing.assert_array_equal(found.read_slice(found[0], 8).astype(np.int32) - 32768, hu[4])


def test_several_runs_of_a_series_and_names_alike(root, hu):
    images = root / "Images_nifti"
    for name, value in (
        ("000001_01_02_014-014", 100),
        ("000001_01_02_101-105", 200),
        ("000001_01_02_1_010-014", 300),  # another series whose name begins alike
        ("000001_01_020_010-014", 400),
    ):
        first, last = map(int, name[-7:].split("-"))
        volume = np.full((last - first + 1, 60, 50), value, np.int16)
        write_nifti(images / f"{name}.nii.gz", volume, SPACING)
    (images / "notes.txt").write_text("not a volume")
    found = DeepLesion(root)
    values = {n: found.read_slice(found[0], n) for n in (8, 13, 14, 101, 105, 106)}
    assert values[13] is values[106] is None
    assert {n: v.max() - 32768 for n, v in values.items() if n > 8 and v is not None} == {
        14: 100, 101: 200, 105: 200
    }  # fmt: skip


def test_a_volume_is_read_once_a_sample_and_no_two_are_kept(root, hu, monkeypatch):
    write_nifti(root / "Images_nifti" / "000001_01_02_020-024.nii.gz", hu, SPACING)
    read = []

    def count(path, suffix):
        read.append(path.name)
        return read_image(path, suffix)

    monkeypatch.setattr("lesionkit.data.deeplesion.nifti.read_image", count)
    found = DeepLesion(root)
    prepare_key_slice(found, found[0], Preprocessing(num_images=1))
    assert len(read) == 1
    found.read_slice(found[0], 20)
    found.read_slice(found[0], 8)
    assert len(read) == 3
    again = pickle.loads(pickle.dumps(found))  # without the volume
    assert len(pickle.dumps(found)) < 5000
    np.testing.assert_array_equal(again.read_slice(again[0], 8).astype(np.int32) - 32768, hu[0])
    read.clear()
    with ThreadPoolExecutor(2) as pool:  # each thread has its own
        numbers = [8, 20] * 10
        slices = list(pool.map(lambda n: found.read_slice(found[0], n), numbers))
    for number, raw in zip(numbers, slices, strict=True):
        np.testing.assert_array_equal(raw, found.read_slice(found[0], number))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda data: data[:-20], "truncated"),
        (lambda data: data[:100] + bytes(8) + data[108:], "corrupt|checksum|invalid|incorrect"),
        (lambda data: b"no NIfTI at all", "nii.gz"),
        (lambda data: b"", "nii.gz"),
        (lambda data: gzip.compress(gzip.decompress(data)[:-2]), "truncated"),
    ],
)
def test_damaged_volumes_are_refused(root, change, message):
    path = root / "Images_nifti" / "000001_01_02_008-012.nii.gz"
    path.write_bytes(change(path.read_bytes()))
    found = DeepLesion(root)
    with pytest.raises(InputError, match=rf"{path}.*({message})"):
        found.read_slice(found[0], 10)


def test_a_volume_with_other_slices_than_its_name_says(root, hu):
    path = root / "Images_nifti" / "000001_01_02_008-012.nii.gz"
    write_nifti(path, hu[:4], SPACING)
    found = DeepLesion(root)
    with pytest.raises(InputError, match="4 slices, but its name promises 008 to 012"):
        found.read_slice(found[0], 10)
    write_nifti(path, hu + np.float64(0.5), SPACING)
    with pytest.raises(InputError, match="fractions of HU"):
        found.read_slice(found[0], 10)
