"""Reading whole series: order, geometry, Hounsfield units."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_modality_lut

from lesionkit.data import read_ct
from lesionkit.errors import InputError
from tests.data.dicom.writer import ct_slice, enhanced_ct, write_series

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"


@pytest.fixture
def hu():
    return np.random.default_rng(1).integers(-1024, 3000, (5, 6, 8)).astype(np.int16)


def _tilted(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0, 0], [0, c, -s], [0, s, c]])


@pytest.mark.parametrize(
    "name, corner, position, spacing",
    [
        ("CT_small.dcm", -849, (-158.135803, -179.035797, -75.699997), (0.661468, 0.661468, 5)),
        ("693_J2KI.dcm", None, (-122.5, -112.4, 47), (0.478516, 0.478516, 20)),
        ("J2K_pixelrep_mismatch.dcm", -2000, (-110.2153, -98.1898, 72.1446), (0.431, 0.431, 5)),
    ],
)
def test_real_slices(name, corner, position, spacing):
    volume = read_ct(SHIPPED / name)
    dataset = pydicom.dcmread(SHIPPED / name)
    np.testing.assert_array_equal(volume.hu[0], apply_modality_lut(dataset.pixel_array, dataset))
    assert volume.hu.dtype == np.int16
    if corner is not None:
        assert volume.hu[0, 0, 0] == corner
    np.testing.assert_allclose(volume.origin, position)
    np.testing.assert_allclose(volume.spacing, spacing)
    assert volume.slice_files == (str(SHIPPED / name),)


def test_real_series_beside_a_scout_and_a_dicomdir():
    """98892001 holds a scout and an axial series stored from top to bottom."""
    volume = read_ct(SHIPPED / "dicomdirtests" / "98892001")
    names = [Path(file).name for file in volume.slice_files]
    assert names == ["3353", "3023", "2693", "2392", "2062"]
    np.testing.assert_allclose(volume.spacing, (0.488281, 0.488281, 2.5))
    np.testing.assert_allclose(volume.to_lps([[0, 0, 4]]), [[-72.199997, -143, 8.7625]])


def test_real_series_with_a_gap():
    with pytest.raises(InputError, match=r"17136: 161 slice\(s\) are missing .*17106"):
        read_ct(SHIPPED / "dicomdirtests" / "77654033" / "CT2")


def test_names_mean_nothing(tmp_path, hu):
    paths = write_series(tmp_path, hu, order=[3, 0, 4, 1, 2])
    volume = read_ct(tmp_path)
    np.testing.assert_array_equal(volume.hu, hu)
    assert volume.hu.dtype == np.int16
    assert volume.slice_files == tuple(map(str, paths))
    assert volume.spacing == (0.7, 0.7, 2.5)
    assert volume.origin == (-20.0, -30.0, 100.0)


def test_oblique_and_anisotropic(tmp_path, hu):
    direction = _tilted(0.3)
    write_series(tmp_path, hu, spacing=(0.5, 0.9, 1.25), direction=direction)
    volume = read_ct(tmp_path)
    np.testing.assert_array_equal(volume.hu, hu)
    np.testing.assert_allclose(volume.spacing, (0.5, 0.9, 1.25), atol=1e-6)
    point = np.array([-20, -30, 100]) + direction @ [7 * 0.5, 5 * 0.9, 4 * 1.25]
    np.testing.assert_allclose(volume.to_lps([[7, 5, 4]]), [point], atol=1e-5)


def test_feet_first_rows_run_to_the_right(tmp_path, hu):
    """The normal then points to the feet, and so does the order of slices."""
    direction = np.diag([-1.0, 1.0, -1.0])
    write_series(tmp_path, hu, direction=direction)
    volume = read_ct(tmp_path)
    np.testing.assert_array_equal(volume.hu, hu)
    np.testing.assert_allclose(volume.direction, direction, atol=1e-12)
    np.testing.assert_allclose(volume.to_lps([[0, 0, 4]]), [[-20, -30, 90]])


def test_slices_stored_downwards_come_out_upwards(tmp_path, hu):
    """Position, not acquisition, decides: the stack is written with a left-handed direction."""
    write_series(tmp_path, hu, direction=np.diag([1.0, 1.0, -1.0]))
    volume = read_ct(tmp_path)
    np.testing.assert_array_equal(volume.hu, hu[::-1])
    np.testing.assert_allclose(volume.origin, (-20, -30, 90))


@pytest.mark.parametrize(
    "direction",
    [
        np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),  # coronal
        np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]]),  # sagittal
    ],
)
def test_coronal_and_sagittal_series_become_axial(tmp_path, hu, direction):
    write_series(tmp_path, hu, spacing=(0.7, 0.8, 2.5), direction=direction)
    volume = read_ct(tmp_path)
    np.testing.assert_allclose(volume.direction, np.eye(3), atol=1e-12)
    for index in [(0, 0, 0), (3, 1, 4), (4, 5, 7)]:
        point = np.array([-20, -30, 100]) + direction @ (np.array(index[::-1]) * [0.7, 0.8, 2.5])
        x, y, z = np.rint(volume.from_lps([point])[0]).astype(int)
        assert volume.hu[z, y, x] == hu[index]
        np.testing.assert_allclose(volume.to_lps([[x, y, z]]), [point], atol=1e-6)


def test_each_slice_has_its_own_rescale(tmp_path):
    hu = np.array([[[0.0, 100.0]], [[50.5, 51.0]]])
    write_series(tmp_path / "a", hu[:1], slope=1, intercept=-1024, uid="1.2.3")
    write_series(
        tmp_path / "b", hu[1:], slope=0.5, intercept=-10, uid="1.2.3", origin=(-20, -30, 102)
    )
    volume = read_ct(tmp_path)
    assert volume.hu.dtype == np.float32
    np.testing.assert_array_equal(volume.hu, hu)
    assert volume.spacing[2] == 2.0


def test_values_beyond_int16_are_float(tmp_path):
    hu = np.array([[[0, 40000]], [[1, 2]]])
    write_series(tmp_path, hu)
    volume = read_ct(tmp_path)
    assert volume.hu.dtype == np.float32
    np.testing.assert_array_equal(volume.hu, hu)


def test_padding_is_left_alone(tmp_path):
    hu = np.array([[[-2048, 40]], [[-2048, 41]]])
    write_series(tmp_path, hu, intercept=-2048, PixelPaddingValue=0)
    np.testing.assert_array_equal(read_ct(tmp_path).hu, hu)


def test_rounded_positions_do_not_drift(tmp_path):
    """Scanners round positions: 0.625 mm steps written with one digit."""
    hu = np.zeros((41, 2, 2), np.int16)
    for index, plane in enumerate(hu):
        position = (0.0, 0.0, round(0.625 * index, 2))
        dataset = ct_slice(plane, position=position, SeriesInstanceUID="1.2.3")
        dataset.save_as(tmp_path / f"{index}", enforce_file_format=True)
    assert read_ct(tmp_path).spacing[2] == pytest.approx(0.625)


def test_one_slice(tmp_path, hu):
    paths = write_series(tmp_path, hu)
    volume = read_ct(paths[2])  # a file is that file, not its series
    np.testing.assert_array_equal(volume.hu, hu[2:3])
    assert volume.spacing == (0.7, 0.7, 2.5)
    write_series(tmp_path / "b", hu[:1], SpacingBetweenSlices=1.5)
    assert read_ct(tmp_path / "b").spacing[2] == 1.5


def test_one_slice_of_unknown_thickness(tmp_path, hu):
    (path,) = write_series(tmp_path, hu[:1], SliceThickness=None)
    with pytest.raises(InputError, match=f"{path}.*SliceThickness"):
        read_ct(path)


def test_enhanced_ct(tmp_path, hu):
    direction = _tilted(0.2)
    dataset = enhanced_ct(hu, direction=direction, frame_order=[2, 0, 4, 1, 3])
    dataset.save_as(tmp_path / "multi.dcm", enforce_file_format=True)
    for path in (tmp_path, tmp_path / "multi.dcm"):
        volume = read_ct(path)
        np.testing.assert_array_equal(volume.hu, hu)
        np.testing.assert_allclose(volume.spacing, (0.7, 0.7, 2.5), atol=1e-6)
        np.testing.assert_allclose(volume.direction, direction, atol=1e-6)
        assert volume.slice_files == (str(tmp_path / "multi.dcm"),) * 5


def test_enhanced_ct_with_too_few_groups(tmp_path, hu):
    dataset = enhanced_ct(hu)
    del dataset.PerFrameFunctionalGroupsSequence[4]
    dataset.save_as(tmp_path / "multi.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match=r"multi\.dcm: 5 frames, but functional groups for 4"):
        read_ct(tmp_path)
    del dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
    dataset.NumberOfFrames = 4
    dataset.PixelData = dataset.PixelData[: 4 * 2 * hu[0].size]
    dataset.save_as(tmp_path / "multi.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match=r"multi\.dcm: frame 1 lacks .*PlanePositionSequence"):
        read_ct(tmp_path)
