"""Image files that SimpleITK reads as if nothing were wrong, or complains of on its own."""

import gzip
import re
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from lesionkit.cli.main import main
from lesionkit.data import read_ct
from lesionkit.errors import InputError

SUFFIXES = [".nii", ".nii.gz", ".nrrd", ".mha"]


def write(path, change=lambda data: data, values=None):
    """A volume of spacing 0.7 x 0.8 x 2.5 mm whose bytes are changed after writing."""
    if values is None:
        values = np.random.default_rng(0).integers(-1000, 1000, (20, 30, 40)).astype(np.int16)
    made = sitk.GetImageFromArray(values)
    made.SetSpacing((0.7, 0.8, 2.5))
    sitk.WriteImage(made, str(path))
    data = path.read_bytes()
    packed = path.suffix == ".gz"
    data = change(gzip.decompress(data) if packed else data)
    path.write_bytes(gzip.compress(data, 1) if packed else data)
    return path


def replace(**lines):
    """Change lines of a text header: regular expressions and what replaces them."""

    def change(data):
        for pattern, text in lines.items():
            data, count = re.subn(pattern.encode() + rb".*\n", text.encode(), data, count=1)
            assert count == 1
        return data

    return change


def floats(start, *values):
    def change(data):
        return (
            data[:start]
            + struct.pack(f"<{len(values)}f", *values)
            + data[start + 4 * len(values) :]
        )

    return change


@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
def test_meta_image_without_spacing(tmp_path, suffix):
    path = write(tmp_path / f"scan{suffix}", replace(ElementSpacing=""))
    with pytest.raises(InputError, match=f"{path}: no spacing .ElementSpacing is missing.*; set"):
        read_ct(path)
    path = write(path, replace(ElementSpacing="ElementSize = 0.7 0.8 2.5\n"))
    assert read_ct(path).spacing == (0.7, 0.8, 2.5)


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr"])
def test_nrrd_without_spacing(tmp_path, suffix):
    path = write(tmp_path / f"scan{suffix}", replace(**{"space directions": ""}))
    with pytest.raises(InputError, match=f"{path}: no spacing .*space directions.*; set"):
        read_ct(path)
    bare = {"space:": "", "space origin": "", "space directions": "spacings: 0.7 0.8 2.5\n"}
    assert read_ct(write(path, replace(**bare))).spacing == (0.7, 0.8, 2.5)
    bare["space directions"] = "spacings: nan 0.8 2.5\n"
    with pytest.raises(InputError, match=r"spacing is not known \(nan 0.8 2.5\)"):
        read_ct(write(path, replace(**bare)))
    none = {"space directions": "space directions: none (0,0.8,0) (0,0,2.5)\n"}
    with pytest.raises(InputError, match=r"spacing is not known \(none"):
        read_ct(write(path, replace(**none)))


@pytest.mark.parametrize("unit, is_read", [("mm", True), ("cm", False), ("um", False)])
def test_nrrd_units(tmp_path, unit, is_read):
    units = f'space: left-posterior-superior\nspace units: "{unit}" "{unit}" "{unit}"\n'
    path = write(tmp_path / "scan.nrrd", replace(**{"space:": units}))
    if is_read:
        assert read_ct(path).spacing == (0.7, 0.8, 2.5)
    else:
        with pytest.raises(InputError, match=f"{path}: its spacing is in {unit}"):
            read_ct(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("width", [0.0, np.nan, np.inf])
def test_nifti_without_spacing(tmp_path, suffix, width):
    path = write(tmp_path / f"scan{suffix}", floats(80, 0.7, width, 2.5))
    with pytest.raises(InputError, match=f"{path}: .*spacing.*{width}"):
        read_ct(path)


def test_nifti_with_two_spacings(tmp_path):
    path = write(tmp_path / "scan.nii", floats(80, 1.4, 1.6, 5.0))
    with pytest.raises(
        InputError, match=r"1\.4 x 1\.6 x 5 mm by its pixdim and 0\.7 x 0\.8 x 2\.5"
    ):
        read_ct(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9, 0.999])
def test_truncated(tmp_path, suffix, kept):
    path = write(tmp_path / f"scan{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError, match=f"{path}: "):
        read_ct(path)


def test_corrupt_gzip_stream(tmp_path):
    path = write(tmp_path / "scan.nii.gz")
    data = bytearray(path.read_bytes())
    data[20_000:20_100] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"{path}: .*corrupt"):
        read_ct(path)


DAMAGED = {
    "scan.mha": lambda data: data[:-20],
    "text.mha": lambda data: b"x" * 500,
    "keys.mha": replace(DimSize=""),
    "gone.mhd": replace(ElementDataFile="ElementDataFile = lost.raw\n"),
    "scan.nrrd": lambda data: data[:-20],
    "text.nrrd": lambda data: b"x" * 500,
    "code.nrrd": replace(encoding="encoding: foo\n"),
    "size.nii": lambda data: data[:40] + b"\xff\x7f" + data[42:],
    "type.nii": lambda data: data[:70] + b"\x0f\x27" + data[72:],
    "none.nii": lambda data: b"",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_line(tmp_path, capfd, name):
    path = write(tmp_path / name, DAMAGED[name])
    with pytest.raises(InputError, match=f"{path}: .*(truncated|corrupt)") as raised:
        read_ct(path)
    message = str(raised.value)
    assert len(message.removeprefix(str(path))) < 250
    for word in ("\n", "Success", "Reason", "0x", "ITK"):
        assert word not in message.replace(str(path), "")
    assert capfd.readouterr() == ("", "")


def test_standard_error_is_as_it_was(tmp_path, capfd):
    path = write(tmp_path / "scan.mha")
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    read_ct(path)
    path.write_bytes(b"x" * 500)
    with pytest.raises(InputError):
        read_ct(path)
    assert sitk.ProcessObject.GetGlobalWarningDisplay() == before
    assert main(["nonsense"]) == 2
    assert capfd.readouterr().err.startswith("lesionkit: error: ")
