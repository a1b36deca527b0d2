"""Slices that do not make a volume are refused, and the file at fault is named."""

import numpy as np
import pytest

from lesionkit.data import read_ct
from lesionkit.errors import InputError
from tests.data.dicom.writer import ct_slice, write_series

UID = "1.2.826.0.1.77"


def _write(folder, positions, **tags):
    """A series of 4 x 5 slices at the given LPS positions; 0.dcm, 1.dcm, ... in that order."""
    for index, position in enumerate(positions):
        dataset = ct_slice(np.zeros((4, 5)), position=position, SeriesInstanceUID=UID, **tags)
        dataset.save_as(folder / f"{index}.dcm", enforce_file_format=True)


def _heights(*heights):
    return [(0.0, 0.0, height) for height in heights]


def _refused(folder, *patterns):
    with pytest.raises(InputError) as raised:
        read_ct(folder)
    for pattern in patterns:
        assert pattern in str(raised.value)


@pytest.mark.parametrize(
    "heights, files, count",
    [
        ((0, 1, 2, 4, 5), ("3.dcm", "2.dcm"), 1),
        ((0, 2, 4, 6, 14), ("4.dcm", "3.dcm"), 3),
        ((9, 8, 0, 1, 2), ("1.dcm", "4.dcm"), 5),
    ],
)
def test_missing_slices(tmp_path, heights, files, count):
    _write(tmp_path, _heights(*heights))
    _refused(tmp_path, *files, f"{count} slice(s) are missing")


def test_duplicate_position(tmp_path):
    _write(tmp_path, _heights(0, 1, 2, 1))
    _refused(tmp_path, "1.dcm", "3.dcm", "two images at one position")


def test_copied_file(tmp_path):
    (path, *_) = write_series(tmp_path, np.zeros((3, 4, 5)), order=[0, 1, 2])
    (tmp_path / "copy.dcm").write_bytes(path.read_bytes())
    _refused(tmp_path, "copy.dcm", "000.dcm", "copies of one image")


@pytest.mark.parametrize("heights", [(0, 1, 2, 3.25, 4.25), (0, 1, 2, 3.5, 5, 6.5)])
def test_uneven_spacing(tmp_path, heights):
    _write(tmp_path, _heights(*heights))
    _refused(tmp_path, "uneven spacing", "10%", ".dcm")


def test_slow_drift_of_the_interval(tmp_path):
    """Each gap is within the tolerance of the next, the volume as a whole is not."""
    _write(tmp_path, _heights(*np.cumsum([0] + [1.0] * 20 + [1.08] * 20)))
    _refused(tmp_path, "uneven spacing")


def test_spacing_within_the_tolerance(tmp_path):
    _write(tmp_path, _heights(0, 1.05, 2, 2.95, 4))
    assert read_ct(tmp_path).spacing[2] == 1.0


@pytest.mark.parametrize("tilt", [3.0, 18.0])
def test_gantry_tilt(tmp_path, tilt):
    shift = np.tan(np.radians(tilt))
    _write(tmp_path, [(0.0, shift * height, height) for height in range(0, 40, 5)])
    _refused(tmp_path, "7.dcm", f"{tilt} degrees", "dcm2niix")


def test_two_fields_of_view(tmp_path):
    _write(tmp_path, [(0, 0, 0), (0, 0, 1), (30, 0, 2)])
    _refused(tmp_path, "2.dcm", "shifted sideways by 30.00 mm")


@pytest.mark.parametrize(
    "tags, what",
    [
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "ImageOrientationPatient"),
        ({"PixelSpacing": [0.7, 0.71]}, "pixel spacing"),
    ],
)
def test_mixed_geometry(tmp_path, tags, what):
    _write(tmp_path, _heights(0, 1, 2))
    odd = ct_slice(np.zeros((4, 5)), position=(0, 0, 3), SeriesInstanceUID=UID, **tags)
    odd.save_as(tmp_path / "odd.dcm", enforce_file_format=True)
    _refused(tmp_path, "odd.dcm", what, "0.dcm")


@pytest.mark.parametrize("keyword", ["PatientID", "StudyInstanceUID", "FrameOfReferenceUID"])
@pytest.mark.parametrize("other", ["1.2.3.5", None])
def test_two_scans_under_one_series(tmp_path, keyword, other):
    _write(tmp_path, _heights(0, 1, 2), **{keyword: "1.2.3.4"})
    assert read_ct(tmp_path).hu.shape == (3, 4, 5)
    tags = {"SeriesInstanceUID": UID, keyword: other}
    odd = ct_slice(np.zeros((4, 5)), position=(0, 0, 3), **tags)
    odd.save_as(tmp_path / "odd.dcm", enforce_file_format=True)
    _refused(tmp_path, "odd.dcm", "0.dcm", f"not the {keyword} of", "keep only")
    with pytest.raises(InputError) as raised:
        read_ct(tmp_path)
    assert "1.2.3.4" not in str(raised.value)  # who the patient is belongs into no log


@pytest.mark.parametrize("step, value", [(1e-3, "0.001"), (60, "60"), (1e6, "1e+06")])
def test_slices_too_close_or_too_far(tmp_path, step, value):
    _write(tmp_path, _heights(0, 1.5 * step, 3 * step))
    _refused(tmp_path, f"slice spacing {float(value) * 1.5:g} mm", "0.01 to 50 mm")


def test_mixed_sizes(tmp_path):
    _write(tmp_path, _heights(0, 1, 2))
    odd = ct_slice(np.zeros((5, 4)), position=(0, 0, 3), SeriesInstanceUID=UID)
    odd.save_as(tmp_path / "odd.dcm", enforce_file_format=True)
    _refused(tmp_path, "odd.dcm", "5 x 4", "4 x 5", "0.dcm")


@pytest.mark.parametrize(
    "tags, what",
    [
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "right angle"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 1, 0]}, "unit"),
        ({"ImageOrientationPatient": [1, 0, 0]}, "6 numbers"),
        *(
            ({"PixelSpacing": [0.7, value]}, f"{float(value):g}; a CT has 0.01 to 10 mm")
            for value in (0, -0.7, 1e-9, 700, "1e30")
        ),
        ({"RescaleSlope": "1e30"}, "RescaleSlope 1e+30; a CT has 0.0001 to 1000"),
        ({"RescaleSlope": "1e-9"}, "RescaleSlope 1e-09; a CT has 0.0001 to 1000"),
        ({"RescaleSlope": 0}, "RescaleSlope is 0"),
        ({"RescaleType": "Z_EFF"}, "not Hounsfield units"),
        *(
            ({keyword: None}, f"{keyword} is missing")
            for keyword in (
                "ImagePositionPatient",
                "ImageOrientationPatient",
                "PixelSpacing",
                "RescaleSlope",
                "RescaleIntercept",
                "Rows",
                "Columns",
                "SeriesInstanceUID",
                "SOPClassUID",
                "Modality",
            )
        ),
    ],
)
def test_bad_tag(tmp_path, tags, what):
    _write(tmp_path, _heights(0, 1))
    odd = ct_slice(np.zeros((4, 5)), position=(0, 0, 2), **({"SeriesInstanceUID": UID} | tags))
    odd.save_as(tmp_path / "odd.dcm", enforce_file_format=True)
    _refused(tmp_path, "odd.dcm", what)
