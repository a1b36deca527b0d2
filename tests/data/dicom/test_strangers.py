"""Files beside the slices that are no readable DICOM: damaged slices, or none of our business."""

import re
import shutil

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from lesionkit.data import read_ct
from lesionkit.errors import InputError
from tests.data.dicom.writer import ct_slice, write_series

NAMES = ["{:03d}.dcm", "IM{:04d}", "1.2.840.113619.{}", "CT_{}.IMA", "slice.{}", "{:x}f{:x}ab"]


@pytest.fixture
def hu():
    return np.random.default_rng(5).integers(-1024, 3000, (12, 6, 8)).astype(np.int16)


def write(folder, hu, name):
    """A series whose slice i is named by i; its paths."""
    paths = write_series(folder, hu)
    return [path.rename(folder / name.format(i + 100, i)) for i, path in enumerate(paths)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size, why", [(0, "empty"), (100, "no readable DICOM"), (131, "no read")])
def test_the_last_slice_cut_off(tmp_path, hu, name, size, why):
    """No gap tells: the volume would be of 11 slices."""
    *_, last = write(tmp_path, hu, name)
    np.testing.assert_array_equal(read_ct(tmp_path).hu, hu)
    last.write_bytes(last.read_bytes()[:size])
    with pytest.raises(InputError, match=f"{re.escape(str(last))}: .*but {why}.*move it out"):
        read_ct(tmp_path)


def test_a_slice_cut_off_in_a_folder_of_its_own(tmp_path, hu):
    *_, last = write(tmp_path / "a", hu, "IM{:04d}")
    (tmp_path / "b").mkdir()
    last.rename(tmp_path / "b" / last.name).write_bytes(bytes(100))
    with pytest.raises(InputError, match=f"b/{last.name}: named like a DICOM slice"):
        read_ct(tmp_path)


@pytest.mark.parametrize("name", ["020.dcm", "020.DCM", "x.dicom", "x.dcm.gz", "x.dcm.part"])
def test_names_of_slices(tmp_path, hu, name):
    write(tmp_path, hu, "IM{:04d}")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / name).write_text("text")
    with pytest.raises(InputError, match=f"{name}: named like a DICOM slice"):
        read_ct(tmp_path)


def test_a_link_to_a_slice_that_is_gone(tmp_path, hu):
    *_, last = write(tmp_path, hu, "{:03d}.dcm")
    last.unlink()
    last.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=f"{last}: .*a link to nothing"):
        read_ct(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_plainly_other_files(tmp_path, hu, name):
    write(tmp_path, hu, name)
    (tmp_path / "sub").mkdir()
    for folder in (tmp_path, tmp_path / "sub"):
        for other in ("README", "DICOMDIR", "README.txt", "index.html", ".notes"):
            (folder / other).write_text("text, and no slice")
        for other in ("empty.txt", ".empty", ".DS_Store"):
            (folder / other).touch()
        for other in ("shot.png", "109.png", "109.dcm.png", "Thumbs.db", "._109.dcm", "run.exe"):
            (folder / other).write_bytes(bytes(200))
    (tmp_path / "sub" / "viewer").write_bytes(bytes(200))  # a program: no slices are beside it
    np.testing.assert_array_equal(read_ct(tmp_path).hu, hu)


SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("with_meta", [False, True])
@pytest.mark.parametrize("name", ["000.dcm", "000"])
def test_without_preamble(tmp_path, hu, syntax, with_meta, name):
    """The first slice; the others are ordinary."""
    first, *_ = write_series(tmp_path, hu, order=range(12))
    data = pydicom.dcmread(first)
    first.unlink()
    if syntax == ExplicitVRBigEndian:
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
    path = tmp_path / name
    data.preamble = None
    data.file_meta.TransferSyntaxUID = syntax
    if not with_meta:
        data.file_meta.clear()
    pydicom.dcmwrite(
        path,
        data,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        force_encoding=True,
    )
    assert path.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(read_ct(tmp_path).hu, hu)
    np.testing.assert_array_equal(read_ct(path).hu, hu[:1])
    path.write_bytes(path.read_bytes()[:20])  # before its SOPClassUID
    if name == "000.dcm":
        with pytest.raises(InputError, match=f"{path}: .*no readable DICOM"):
            read_ct(tmp_path)


def test_a_screenshot_makes_no_deeplesion_folder(tmp_path, hu):
    write(tmp_path, hu, "{:03d}.dcm")
    (tmp_path / "001.png").write_bytes(b"a screenshot")
    np.testing.assert_array_equal(read_ct(tmp_path).hu, hu)
    shutil.copytree(tmp_path, tmp_path / "deep" / "er")
    (tmp_path / "deep" / "002.png").touch()
    np.testing.assert_array_equal(read_ct(tmp_path / "deep").hu, hu)


def test_compressed_pixels_without_preamble(tmp_path):
    """Nothing then says how they are compressed."""
    data = ct_slice(np.zeros((4, 4)))
    data.compress(pydicom.uid.RLELossless)
    data.preamble = None
    data.file_meta.clear()
    path = tmp_path / "slice.dcm"
    pydicom.dcmwrite(path, data, implicit_vr=False, little_endian=True, force_encoding=True)
    with pytest.raises(InputError, match=f"{path}: its pixels are compressed, but its transfer"):
        read_ct(tmp_path)
