"""NIfTI: geometry that must be there, and pixels that must be whole."""

import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from lesionkit.data import read_ct
from lesionkit.errors import InputError
from tests.data.images.files import floats, write


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("width", [0.0, np.nan, np.inf])
def test_nifti_without_spacing(tmp_path, suffix, width):
    path = write(tmp_path / f"scan{suffix}", floats(80, 0.7, width, 2.5))
    with pytest.raises(InputError, match=f"{path}: .*spacing.*{width}"):
        read_ct(path)


def test_nifti_with_two_spacings(tmp_path):
    path = write(tmp_path / "scan.nii", floats(80, 1.4, 1.6, 5.0))
    with pytest.raises(InputError, match=r"1\.4 x 1\.6 x 5 by its pixdim and 0\.7 x 0\.8 x 2\.5"):
        read_ct(path)


def in_unit(code, factor):
    """The same geometry in another unit: pixdim, the offsets of the qform, and the sform."""

    def change(data):
        data = bytearray(data)
        data[123] = code
        for start, count in ((80, 3), (268, 3), (280, 12)):
            values = np.frombuffer(data, "<f4", count, start) * np.float32(factor)
            data[start : start + 4 * count] = values.tobytes()
        return bytes(data)

    return change


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("code, factor", [(0, 1), (1, 1e-3), (2, 1), (3, 1e3)])
def test_units(tmp_path, suffix, code, factor):
    path = write(tmp_path / f"scan{suffix}", in_unit(code, factor), origin=(10, 20, 30))
    np.testing.assert_allclose(read_ct(path).spacing, (0.7, 0.8, 2.5), rtol=1e-5)
    np.testing.assert_allclose(read_ct(path).origin, (10, 20, 30), rtol=1e-5)


@pytest.mark.parametrize(
    "code, factor, message",
    [
        (0, 1e-3, "pixel spacing 0.0007 mm; a CT has 0.01 to 10 mm"),
        (2, 1e3, "pixel spacing 700 mm"),
        (1, 1, "pixel spacing 700 mm"),
        (3, 1, "pixel spacing 0.0007 mm"),
        (4, 1, "unknown units .xyzt_units has 4.*in mm"),
    ],
)
def test_wrong_units(tmp_path, code, factor, message):
    path = write(tmp_path / "scan.nii", in_unit(code, factor))
    with pytest.raises(InputError, match=f"{path}: .*{message}"):
        read_ct(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("place", [0, -1])
def test_voxels_that_are_no_numbers(tmp_path, suffix, dtype, place):
    """SimpleITK reads them as 0 HU. The volume takes more than one piece of 1 MiB."""
    hu = np.full((70, 64, 64), -1000.5, dtype)
    np.testing.assert_array_equal(read_ct(write(tmp_path / f"scan{suffix}", values=hu)).hu, hu)
    for value in (np.nan, np.inf):
        hu.flat[place] = value
        path = write(tmp_path / f"scan{suffix}", values=hu)
        with pytest.raises(InputError, match=f"{path}: has NaN or infinite voxels.*-1024 HU"):
            read_ct(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_of_fewer_slices(tmp_path, suffix):
    path = write(tmp_path / f"scan{suffix}", lambda data: data[:46] + b"\x0a\0" + data[48:])
    with pytest.raises(InputError, match=f"{path}: .*the header is wrong"):
        read_ct(path)


def patch(*changes):
    """Put bytes at offsets."""

    def change(data):
        data = bytearray(data)
        for start, value in changes:
            data[start : start + len(value)] = value
        return bytes(data)

    return change


def big_endian(data):
    """The same file in the other byte order."""
    data = bytearray(data)
    fields = {
        4: [(0, 1), (56, 3), (76, 11), (124, 4), (256, 18)],
        2: [(40, 8), (68, 4), (252, 2)],
    }  # bytes of a number: where there are how many of them
    for width, start, count in [(w, *field) for w, several in fields.items() for field in several]:
        end = start + count * width
        data[start:end] = np.frombuffer(data[start:end], f"<u{width}").byteswap().tobytes()
    data[352:] = np.frombuffer(data[352:], "<i2").byteswap().tobytes()
    return bytes(data)


def with_extension(data):
    """352 bytes of header, 32 of a comment, then the voxels."""
    comment = np.array([32, 6], "<i4").tobytes() + b"a comment".ljust(24, b"\0")
    data = patch((108, np.float32(384).tobytes()), (348, b"\1"))(data)
    return data[:352] + comment + data[352:]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    "change",
    [
        lambda data: data,
        big_endian,
        with_extension,
        patch((112, np.array([0, 0], "<f4").tobytes())),  # a slope of 0: no scaling
        patch((112, np.array([1, -24], "<f4").tobytes())),
        patch((112, np.array([0.5, 0], "<f4").tobytes())),
        patch((70, np.int16(512).tobytes())),  # unsigned
    ],
    ids=["plain", "big endian", "extension", "slope 0", "offset", "slope", "unsigned"],
)
def test_voxels_are_those_that_simpleitk_reads(tmp_path, suffix, change):
    values = np.arange(20 * 250 * 300).reshape(20, 250, 300) % 3000  # several pieces of a MiB
    path = write(tmp_path / f"scan{suffix}", change, values.astype(np.int16))
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(read_ct(path).hu, expected)


def test_a_header_in_many_gzip_members(tmp_path):
    path = write(tmp_path / "scan.nii")
    expected, data = read_ct(path).hu, path.read_bytes()
    parts = [data[:100], data[100:353], data[353:]]
    (tmp_path / "scan.nii.gz").write_bytes(b"".join(map(gzip.compress, parts)))
    np.testing.assert_array_equal(read_ct(tmp_path / "scan.nii.gz").hu, expected)
