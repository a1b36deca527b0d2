"""Which files and which series of a folder are read."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from lesionkit.data import read_ct
from lesionkit.data.dicom import index as dicom_index
from lesionkit.errors import InputError
from tests.data.dicom.writer import ct_slice, write_series

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
THIN, THICK = "1.2.840.99.1", "1.2.840.99.2"


@pytest.fixture
def two_series(tmp_path):
    write_series(
        tmp_path / "a", np.full((4, 3, 3), 7), uid=THIN, SeriesNumber=3, SeriesDescription="thin"
    )
    write_series(tmp_path / "b", np.full((2, 3, 3), 8), uid=THICK, SeriesNumber=4)
    return tmp_path


def test_several_series_are_listed(two_series):
    with pytest.raises(InputError) as raised:
        read_ct(two_series)
    head, first, second = str(raised.value).splitlines()
    assert "2 CT series" in head
    assert "--series" in head
    assert all(part in first for part in (THIN, "number 3", "thin", "4 slices", ".dcm"))
    assert all(part in second for part in (THICK, "number 4", "2 slices"))


@pytest.mark.parametrize(
    "wanted, value", [(THIN, 7), ("99.2", 8), ("4", 8), ("3", 7), (THICK, 8), (".1", 7)]
)
def test_choosing_a_series(two_series, wanted, value):
    assert read_ct(two_series, series=wanted).hu[0, 0, 0] == value


@pytest.mark.parametrize(
    "wanted, message", [("1.2.840", "fits several"), ("5", "no CT series fits"), ("", "several")]
)
def test_choosing_no_series(two_series, wanted, message):
    with pytest.raises(InputError, match=message) as raised:
        read_ct(two_series, series=wanted)
    assert THIN in str(raised.value)
    assert THICK in str(raised.value)


def test_other_files_are_passed_over(tmp_path):
    hu = np.arange(18).reshape(2, 3, 3)
    write_series(tmp_path / "deep" / "er", hu, uid=THIN)
    shutil.copy(SHIPPED / "MR_small.dcm", tmp_path)
    shutil.copy(SHIPPED / "dicomdirtests" / "DICOMDIR", tmp_path)
    shutil.copy(SHIPPED / "dicomdirtests" / "DICOMDIR", tmp_path / "renamed.dcm")
    shutil.copy(SHIPPED / "dicomdirtests" / "98892001" / "CT2N" / "6293", tmp_path)
    (tmp_path / "notes.txt").write_text("not DICOM")
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nowhere")
    capture = ct_slice(np.zeros((3, 3)), SOPClassUID=SecondaryCaptureImageStorage)
    capture.SeriesInstanceUID = THIN
    capture.save_as(tmp_path / "dose.dcm")
    np.testing.assert_array_equal(read_ct(tmp_path).hu, hu)


def test_no_ct_lists_what_there_is(tmp_path):
    shutil.copy(SHIPPED / "MR_small.dcm", tmp_path)
    shutil.copy(SHIPPED / "dicomdirtests" / "98892001" / "CT2N" / "6293", tmp_path / "scout")
    with pytest.raises(InputError, match="no CT slices") as raised:
        read_ct(tmp_path)
    for part in ("MR", "MR_small.dcm", "localizer", "scout"):
        assert part in str(raised.value)


def test_asking_for_a_series_that_is_not_ct(two_series):
    shutil.copy(SHIPPED / "MR_small.dcm", two_series)
    uid = pydicom.dcmread(SHIPPED / "MR_small.dcm").SeriesInstanceUID
    with pytest.raises(InputError, match=r"is not CT slices.*\n.*MR_small\.dcm"):
        read_ct(two_series, series=uid)


def test_empty_folder(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path}: no DICOM file"):
        read_ct(tmp_path)


def test_a_folder_that_is_no_study(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_index, "MAX_FILES", 3)
    write_series(tmp_path, np.zeros((4, 3, 3)))
    with pytest.raises(InputError, match="more than 3 files"):
        read_ct(tmp_path)


def test_a_damaged_file_is_not_passed_over(tmp_path):
    """At an end of the stack no gap would tell that it is missing."""
    *_, last = write_series(tmp_path, np.zeros((4, 3, 3)))
    last.write_bytes(last.read_bytes()[:200])
    with pytest.raises(InputError, match=f"{last}.*truncated"):
        read_ct(tmp_path)
