import numpy as np
import pytest
from PIL import Image

from lesionkit.data import DeepLesion, read_ct, write_dl_info
from lesionkit.errors import InputError

from .files import row, write_slices


@pytest.fixture
def hu():
    return np.random.default_rng(5).integers(-2000, 3000, (5, 6, 8)).astype(np.int16)


@pytest.fixture
def root(tmp_path, hu):
    write_slices(tmp_path / "Images_png" / "000001_01_02", hu)
    write_dl_info(tmp_path / "DL_info.csv", [row()])
    return tmp_path


def test_series_folder(root, hu):
    volume = read_ct(root / "Images_png" / "000001_01_02")
    np.testing.assert_array_equal(volume.hu, hu)
    assert volume.hu.dtype == np.int16
    assert volume.spacing == (0.8125, 0.8125, 5.0)
    assert volume.first_slice == 8
    assert [file[-7:] for file in volume.slice_files] == [f"{n:03d}.png" for n in range(8, 13)]
    # Slice numbers grow towards the feet; the first pixel of slice 0 is the origin.
    np.testing.assert_allclose(volume.to_lps([[2, 1, 0]]), [[1.625, 0.8125, -40]])
    np.testing.assert_allclose(volume.to_lps([[0, 0, 4]]), [[0, 0, -60]])


def test_relative_path(root, hu, monkeypatch):
    monkeypatch.chdir(root / "Images_png" / "000001_01_02")
    np.testing.assert_array_equal(read_ct(".").hu, hu)


def test_extreme_values(tmp_path):
    hu = np.int16([[[-32768, 32767]]])
    write_slices(tmp_path / "000001_01_02", hu)
    write_dl_info(tmp_path / "DL_info.csv", [row()])
    np.testing.assert_array_equal(read_ct(tmp_path / "000001_01_02").hu, hu)


def test_runs_of_slices(root, hu):
    folder = root / "Images_png" / "000001_01_02"
    write_slices(folder, hu[:2], first=20)
    with pytest.raises(InputError, match=r"gaps.*--series: 8-12, 20-21"):
        read_ct(folder)
    volume = read_ct(folder, series="20-21")
    np.testing.assert_array_equal(volume.hu, hu[:2])
    assert volume.first_slice == 20
    with pytest.raises(InputError, match=r"'9-12'.*8-12, 20-21"):
        read_ct(folder, series="9-12")


def test_unknown_spacing(root, hu):
    write_slices(root / "Images_png" / "000009_01_01", hu)
    with pytest.raises(InputError, match=r"DL_info\.csv: no row is of 000009_01_01"):
        read_ct(root / "Images_png" / "000009_01_01")
    (root / "DL_info.csv").unlink()
    with pytest.raises(InputError, match=r"000001_01_02: no DL_info\.csv"):
        read_ct(root / "Images_png" / "000001_01_02")


def test_unknown_interval(root):
    write_dl_info(root / "DL_info.csv", [row(Spacing_mm_px_=(0.8, 0.8, float("nan")))])
    with pytest.raises(InputError, match="slice interval nan"):
        read_ct(root / "Images_png" / "000001_01_02")


@pytest.mark.parametrize(
    "values, message",
    [
        (np.zeros((6, 8), np.uint8), "16-bit grey"),
        (np.zeros((6, 8, 3), np.uint8), "type RGB"),
        (np.zeros((6, 9), np.uint16), "9 x 6 pixels, but 008.png has 8 x 6"),
    ],
)
def test_wrong_png(root, values, message):
    path = root / "Images_png" / "000001_01_02" / "010.png"
    Image.fromarray(values).save(path)
    with pytest.raises(InputError, match=f"{path}: .*{message}"):
        read_ct(path.parent)


@pytest.mark.parametrize("kept", [0, 10, 30, 50, -40])
def test_truncated_png(root, kept):
    path = root / "Images_png" / "000001_01_02" / "010.png"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=f"{path}: .*truncated"):
        read_ct(path.parent)


def test_a_flipped_bit_is_noticed_anywhere(root):
    """Pillow gives other pixels for most of them, and no error."""
    path = root / "Images_png" / "000001_01_02" / "010.png"
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 16]) + data[position + 1 :])
        with pytest.raises(InputError, match=r"010\.png: not a readable PNG"):
            DeepLesion(root).read_slice(DeepLesion(root)[0], 10)


def test_absurd_png_is_refused_before_decoding(root, monkeypatch):
    path = root / "Images_png" / "000001_01_02" / "010.png"
    Image.fromarray(np.zeros((1, 8193), np.uint16)).save(path)
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(InputError, match="8193 x 1"):
        DeepLesion(root).read_slice(DeepLesion(root)[0], 10)


@pytest.mark.parametrize("images", ["Images_png", "Images_png/Images_png", "Images_16bit", "."])
def test_read_slice_in_each_layout(tmp_path, hu, images):
    write_slices(tmp_path / images / "000001_01_02", hu)
    write_dl_info(tmp_path / "DL_info.csv", [row()])
    found = DeepLesion(tmp_path)
    raw = found.read_slice(found[0], 10)
    assert raw.dtype == np.uint16
    np.testing.assert_array_equal(raw.astype(np.int32) - 32768, hu[2])
    for absent in (7, 13, -1, 10**9):
        assert found.read_slice(found[0], absent) is None
