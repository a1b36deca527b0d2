import gzip
import os
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from lesionkit.data import read_ct
from lesionkit.errors import InputError
from tests.data.dicom.writer import write_series

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
SUFFIXES = [".nii", ".nii.gz", ".nrrd", ".mha"]
ROUNDING = {"atol": 1e-4}  # NIfTI keeps its geometry in float32


def image(values, spacing=(0.7, 0.8, 2.5), origin=(-30.0, 40.0, 50.0), direction=None):
    made = sitk.GetImageFromArray(values)
    made.SetSpacing(spacing)
    made.SetOrigin(origin)
    if direction is not None:
        made.SetDirection(np.asarray(direction, float).ravel())
    return made


@pytest.fixture
def hu():
    return np.random.default_rng(3).integers(-1024, 3000, (3, 4, 5)).astype(np.int16)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".nhdr", ".mhd", ".NII.GZ"])
def test_formats(tmp_path, hu, suffix):
    path = tmp_path / f"scan{suffix.lower()}"
    sitk.WriteImage(image(hu), str(path))
    path = path.rename(tmp_path / f"scan{suffix}")
    volume = read_ct(path)
    assert volume.hu.dtype == np.int16
    np.testing.assert_array_equal(volume.hu, hu)
    np.testing.assert_allclose(volume.spacing, (0.7, 0.8, 2.5), **ROUNDING)
    np.testing.assert_allclose(volume.origin, (-30, 40, 50), **ROUNDING)
    np.testing.assert_allclose(volume.direction, np.eye(3), **ROUNDING)
    assert volume.source == str(path)


def test_dicom_and_nifti_of_one_scan_agree(tmp_path, hu):
    write_series(tmp_path / "dicom", hu)
    stored = image(hu, (0.7, 0.7, 2.5), (-20.0, -30.0, 100.0))
    sitk.WriteImage(stored, str(tmp_path / "scan.nii.gz"))
    one, two = read_ct(tmp_path / "dicom"), read_ct(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(one.hu, two.hu)
    corners = [[0, 0, 0], [4, 3, 2]]
    np.testing.assert_allclose(one.to_lps(corners), two.to_lps(corners), **ROUNDING)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("orientation", ["RAS", "LAI", "PIR", "ASL", "SPR", "RIP"])
def test_any_orientation_becomes_axial_slices(tmp_path, hu, suffix, orientation):
    """SimpleITK turns a volume into the given order of axes; reading turns it back."""
    turned = sitk.DICOMOrient(image(hu), orientation)
    assert sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(
        turned.GetDirection()
    ) == (orientation)
    sitk.WriteImage(turned, str(tmp_path / f"scan{suffix}"))
    volume = read_ct(tmp_path / f"scan{suffix}")
    np.testing.assert_array_equal(volume.hu, hu)
    np.testing.assert_allclose(volume.spacing, (0.7, 0.8, 2.5), **ROUNDING)
    np.testing.assert_allclose(volume.direction, np.eye(3), **ROUNDING)
    for index in np.ndindex(turned.GetSize()):
        x, y, z = np.rint(volume.from_lps([turned.TransformIndexToPhysicalPoint(index)])[0])
        assert volume.hu[int(z), int(y), int(x)] == turned[index]


@pytest.mark.parametrize(
    "values, dtype",
    [
        (np.float64([[[-1000, 40.0]]]), np.int16),
        (np.float32([[[-1000, 40.5]]]), np.float32),
        (np.uint16([[[0, 60000]]]), np.float32),
        (np.uint8([[[0, 255]]]), np.int16),
    ],
)
def test_types(tmp_path, values, dtype):
    sitk.WriteImage(image(values), str(tmp_path / "scan.nii"))
    volume = read_ct(tmp_path / "scan.nii")
    assert volume.hu.dtype == dtype
    np.testing.assert_array_equal(volume.hu, values)


def test_nifti_scaling_is_applied(tmp_path, hu):
    path = tmp_path / "scan.nii"
    sitk.WriteImage(image(hu), str(path))
    data = bytearray(path.read_bytes())
    data[112:120] = struct.pack("<2f", 2, -1024)  # scl_slope, scl_inter
    path.write_bytes(data)
    np.testing.assert_array_equal(read_ct(path).hu, hu * 2.0 - 1024)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "values, message",
    [
        (np.zeros((4, 5), np.int16), "2-dimensional.*one slice"),
        (np.zeros((2, 3, 4, 5), np.int16), "4-dimensional.*one time point"),
        (np.zeros((2, 3, 4), np.complex64), "2 values a voxel"),
    ],
)
def test_no_ct_volume(tmp_path, suffix, values, message):
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=False), str(path))
    with pytest.raises(InputError, match=f"{path}: .*{message}"):
        read_ct(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])  # SimpleITK reads NaN in NIfTI as 0
def test_values_that_are_no_numbers(tmp_path, suffix, value):
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(image(np.float32([[[0, value]]])), str(path))
    with pytest.raises(InputError, match=f"{path}: has NaN"):
        read_ct(path)


def test_colour_volume(tmp_path):
    path = tmp_path / "scan.nrrd"
    colours = sitk.GetImageFromArray(np.zeros((2, 4, 5, 3), np.uint8), isVector=True)
    sitk.WriteImage(colours, str(path))
    with pytest.raises(InputError, match="3 values a voxel"):
        read_ct(path)


def test_a_volume_of_one_slice(tmp_path, hu):
    sitk.WriteImage(image(hu[:1]), str(tmp_path / "scan.nii"))
    np.testing.assert_array_equal(read_ct(tmp_path / "scan.nii").hu, hu[:1])


@pytest.mark.parametrize("offset", [np.nan, np.inf, -400, 100, 1e30])
def test_nifti_pixels_where_none_are(tmp_path, hu, offset):
    path = tmp_path / "scan.nii"
    sitk.WriteImage(image(hu), str(path))
    data = bytearray(path.read_bytes())
    data[108:112] = struct.pack("<f", offset)
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"{path}: "):
        read_ct(path)


def test_absurd_size_is_refused_from_the_header(tmp_path, hu, monkeypatch):
    path = tmp_path / "scan.nii.gz"
    sitk.WriteImage(image(hu), str(tmp_path / "scan.nii"))
    data = bytearray((tmp_path / "scan.nii").read_bytes())
    data[42:48] = struct.pack("<3h", 8000, 8000, 1000)
    path.write_bytes(gzip.compress(data))
    monkeypatch.setattr(sitk.ImageFileReader, "Execute", lambda _: pytest.fail("pixels read"))
    with pytest.raises(InputError, match="8000 x 8000 x 1000 voxels take 119"):
        read_ct(path)


def test_sheared_axes(tmp_path, hu):
    path = tmp_path / "scan.mha"
    sitk.WriteImage(image(hu), str(path))
    text = path.read_bytes()
    assert b"TransformMatrix = 1 0 0 0 1 0 0 0 1" in text
    path.write_bytes(text.replace(b"1 0 0 0 1 0 0 0 1", b"1 0 0 0 1 0 0 0.3 1", 1))
    with pytest.raises(InputError, match=f"{path}.*(right angles|cannot be read)"):
        read_ct(path)


@pytest.mark.parametrize("name", ["scan.png", "scan", "scan.hdr"])
def test_other_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"nothing that holds a scan" * 20)
    with pytest.raises(InputError, match=f"{name}: not a CT format"):
        read_ct(tmp_path / name)


@pytest.mark.parametrize("start", [252, 344])  # qform and sform code; the mark of NIfTI
def test_nifti_without_orientation(tmp_path, hu, start):
    path = tmp_path / "scan.nii"
    sitk.WriteImage(image(hu), str(path))
    data = bytearray(path.read_bytes())
    data[start : start + 4] = bytes(4)
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"{path}: no orientation"):
        read_ct(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "scan.nii")
    with pytest.raises(InputError, match=r"scan\.nii: a pipe or a device"):
        read_ct(tmp_path / "scan.nii")


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="absent: no such file or folder"):
        read_ct(tmp_path / "absent")


def test_what_the_system_refuses():
    with pytest.raises(InputError, match="name too long"):
        read_ct("x" * 300)


@pytest.mark.parametrize("library, name", [("pydicom", "a.dcm"), ("SimpleITK", "a.nii")])
def test_missing_library_says_what_to_install(tmp_path, hu, monkeypatch, library, name):
    shutil.copy(SHIPPED / "CT_small.dcm", tmp_path / "a.dcm")
    sitk.WriteImage(image(hu), str(tmp_path / "a.nii"))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModuleNotFoundError, match=rf"{library}; pip install .lesionkit\[detect\]"):
        read_ct(tmp_path / name)


def test_series_is_for_folders(tmp_path, hu):
    sitk.WriteImage(image(hu), str(tmp_path / "scan.nii"))
    with pytest.raises(InputError, match="--series 2 is for folders"):
        read_ct(tmp_path / "scan.nii", series="2")
