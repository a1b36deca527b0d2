"""Image files that SimpleITK reads as if nothing were wrong, or complains of on its own."""

import pytest
import SimpleITK as sitk

from lesionkit.cli.main import main
from lesionkit.data import read_ct
from lesionkit.errors import InputError
from tests.data.images.files import SUFFIXES, replace, write


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
    with pytest.raises(
        InputError, match=f"{path}: .*(truncated|corrupt|missing|not supported)"
    ) as raised:
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
