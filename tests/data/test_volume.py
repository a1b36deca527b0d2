from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionkit.data.volume import CTVolume, check_volume_size, compact_hu, to_axial
from lesionkit.errors import InputError

AXIAL = np.eye(3)

SIGNED_PERMUTATIONS = st.tuples(
    st.permutations(range(3)), st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)
).map(lambda choice: np.eye(3)[:, choice[0]] * choice[1])

TILTS = st.tuples(*[st.floats(-0.2, 0.2)] * 3).map(lambda angles: _rotation(angles))


def _rotation(angles):
    x, y, z = angles
    about_x = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
    about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    about_z = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
    return np.array(about_x) @ np.array(about_y) @ np.array(about_z)


def _volume(direction=AXIAL, shape=(3, 4, 5), **changes):
    values = {
        "hu": np.arange(np.prod(shape), dtype=np.int16).reshape(shape),
        "spacing": (0.5, 0.75, 2.5),
        "origin": (-10.0, 20.0, 30.0),
        "direction": direction,
        "source": "made up",
    }
    return CTVolume(**(values | changes))


def test_to_lps_by_hand():
    # x runs to the right (-L), y to anterior (-P), slices to superior.
    volume = _volume(np.diag([-1.0, -1.0, 1.0]))
    points = volume.to_lps(np.array([[0, 0, 0], [2, 0, 0], [0, 4, 0], [0, 0, 2], [1, 1, 1]]))
    expected = [[-10, 20, 30], [-11, 20, 30], [-10, 17, 30], [-10, 20, 35], [-10.5, 19.25, 32.5]]
    np.testing.assert_allclose(points, expected)


@settings(deadline=None, max_examples=40)
@given(SIGNED_PERMUTATIONS, TILTS, st.lists(st.floats(-500, 500), min_size=3, max_size=3))
def test_from_lps_undoes_to_lps(permutation, tilt, point):
    volume = _volume(tilt @ permutation)
    np.testing.assert_allclose(volume.from_lps(volume.to_lps([point])), [point], atol=1e-9)


def test_empty_points():
    assert _volume().to_lps(np.empty((0, 3))).shape == (0, 3)


@settings(deadline=None, max_examples=40)
@given(SIGNED_PERMUTATIONS, TILTS)
def test_to_axial_moves_no_voxel_in_the_patient(permutation, tilt):
    volume = _volume(tilt @ permutation)
    axial = to_axial(volume)
    assert (np.abs(axial.direction).argmax(axis=0) == [0, 1, 2]).all()
    assert (np.diag(axial.direction) > 0).all()
    indices = np.argwhere(np.ones(axial.hu.shape))[:, ::-1]
    before = volume.from_lps(axial.to_lps(indices))
    x, y, slices = np.rint(before).astype(int).T
    np.testing.assert_allclose(before, np.rint(before), atol=1e-9)
    np.testing.assert_array_equal(volume.hu[slices, y, x], axial.hu.ravel())


@settings(deadline=None, max_examples=40)
@given(SIGNED_PERMUTATIONS, TILTS)
def test_to_axial_agrees_with_simpleitk(permutation, tilt):
    direction = tilt @ permutation
    if np.linalg.det(direction) < 0:  # DICOMOrient knows right-handed axes only
        direction = -direction
    volume = _volume(direction)
    image = sitk.GetImageFromArray(volume.hu)
    image.SetSpacing(volume.spacing)
    image.SetOrigin(volume.origin)
    image.SetDirection(volume.direction.ravel())
    oriented = sitk.DICOMOrient(image, "LPS")
    axial = to_axial(volume)
    np.testing.assert_array_equal(axial.hu, sitk.GetArrayFromImage(oriented))
    in_place = to_axial(replace(volume, hu=volume.hu.copy()), in_place=True)
    np.testing.assert_array_equal(in_place.hu, axial.hu)
    assert (in_place.origin, in_place.spacing) == (axial.origin, axial.spacing)
    np.testing.assert_allclose(axial.spacing, oriented.GetSpacing())
    np.testing.assert_allclose(axial.origin, oriented.GetOrigin(), atol=1e-9)


def test_to_axial_keeps_slice_files_only_where_slices_stay():
    files = ("a", "b", "c")
    flipped = _volume(np.diag([1.0, -1.0, -1.0]), slice_files=files)
    assert to_axial(flipped).slice_files == ("c", "b", "a")
    coronal = _volume(np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), slice_files=files)
    assert to_axial(coronal).slice_files == ()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"hu": np.zeros((4, 5), np.int16)}, r"\[S, H, W\]"),
        ({"hu": np.zeros((0, 4, 5), np.int16)}, "not empty"),
        ({"hu": np.zeros((1, 4, 5))}, "float64"),
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing"),
        ({"spacing": (1.0, np.nan, 1.0)}, "spacing"),
        ({"origin": (0.0, np.inf, 0.0)}, "origin"),
        ({"direction": np.ones((3, 3))}, "orthonormal"),
        ({"slice_files": ("one",)}, "3 slices"),
    ],
)
def test_bad_fields_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        _volume(**changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"spacing": (0.0007, 0.7, 2.5)}, "pixel spacing 0.0007 mm; a CT has 0.01 to 10 mm"),
        ({"spacing": (0.7, 700.0, 2.5)}, "pixel spacing 700 mm"),
        ({"spacing": (0.7, 0.7, 1e30)}, "slice spacing 1e.30 mm; a CT has 0.01 to 50 mm"),
        ({"spacing": (0.7, 0.7, 1e-9)}, "slice spacing 1e-09 mm"),
        ({"spacing": (0.7, 20.0, 2.5)}, "pixel spacing 20 mm"),
        ({"origin": (0.0, 0.0, -1e30)}, "more than 100000 mm away"),
        ({"hu": np.full((1, 2, 2), 1e30, np.float32)}, "values from 1e.30 .*within 100000 of 0"),
        ({"hu": np.full((1, 2, 2), -2e5, np.float32)}, "values from -200000 "),
        ({"hu": np.float32([[[0, np.nan]]])}, "NaN or infinite voxels.*-1024 HU"),
        ({"hu": np.float32([[[0, -np.inf]]])}, "NaN or infinite voxels"),
        ({"hu": np.float32([[[np.inf, -np.inf]]])}, "NaN or infinite voxels"),
    ],
)
def test_what_no_ct_has(changes, message):
    with pytest.raises(InputError, match=f"^made up: .*{message}"):
        _volume(**changes)


def test_the_limit_for_slices_is_along_the_patient():
    coronal = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert to_axial(_volume(coronal, spacing=(0.7, 20.0, 2.5))).spacing == (0.7, 2.5, 20.0)
    with pytest.raises(InputError, match="pixel spacing 20 mm"):
        _volume(coronal, spacing=(0.7, 2.5, 20.0))


@pytest.mark.parametrize(
    "values, dtype",
    [
        (np.array([-32768, 32767], np.int32), np.int16),
        (np.array([0, 40000], np.uint16), np.float32),
        (np.array([-1024.0, 3071.0]), np.int16),
        (np.array([0.5, 1.0], np.float32), np.float32),
        (np.array([np.nan, 1.0]), np.float32),
        (np.array([1e300]), np.float32),
    ],
)
def test_compact_hu_is_int16_only_where_exact(values, dtype):
    compact = compact_hu(values)
    assert compact.dtype == dtype
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(compact, values.astype(np.float32))


@pytest.mark.parametrize(
    "size", [(65535, 65535, 1), (8193, 1, 1), (512, 512, 10**6), (0, 512, 512), (2048, 2048, 513)]
)
def test_absurd_sizes(size):
    with pytest.raises(InputError, match=r"scan\.dcm"):
        check_volume_size("scan.dcm", *size)


def test_the_largest_ct_passes():
    check_volume_size("scan.dcm", 1024, 1024, 2048)
