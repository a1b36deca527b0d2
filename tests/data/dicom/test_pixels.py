"""Codings of pixels, and files that lie about them."""

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from lesionkit.data import read_ct
from lesionkit.data.dicom import files as dicom_files
from lesionkit.errors import InputError
from tests.data.dicom.writer import ct_slice, enhanced_ct, write_series

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"


@pytest.fixture
def hu():
    return np.random.default_rng(2).integers(-1024, 3000, (3, 64, 48)).astype(np.int16)


def _save(dataset, path):
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_compressed(tmp_path, hu, syntax):
    for path in write_series(tmp_path, hu):
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        _save(dataset, path)
    np.testing.assert_array_equal(read_ct(tmp_path).hu, hu)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_compressed_enhanced(tmp_path, hu, syntax):
    dataset = enhanced_ct(hu, frame_order=[1, 2, 0])
    dataset.compress(syntax)
    _save(dataset, tmp_path / "multi.dcm")
    np.testing.assert_array_equal(read_ct(tmp_path).hu, hu)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_uncompressed(tmp_path, hu, syntax):
    dataset = ct_slice(hu[0])
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(
        tmp_path / "slice",
        dataset,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        force_encoding=True,
    )
    np.testing.assert_array_equal(read_ct(tmp_path / "slice").hu, hu[:1])


def test_signed_values_and_unused_high_bits(tmp_path):
    dataset = ct_slice(np.zeros((1, 4)), intercept=0, BitsStored=12, HighBit=11)
    dataset.PixelRepresentation = 1
    # -1, -2048, 2047 in 12 bits, and 5 with an overlay in the bits above.
    dataset.PixelData = struct.pack("<4H", 0x0FFF, 0x0800, 0x07FF, 0x7005)
    hu = read_ct(_save(dataset, tmp_path / "slice")).hu
    np.testing.assert_array_equal(hu, [[[-1, -2048, 2047, 5]]])


def test_one_byte_of_padding(tmp_path):
    """An element's length is even."""
    dataset = ct_slice(np.full((3, 3), 7), intercept=0, BitsAllocated=8, BitsStored=8, HighBit=7)
    dataset.PixelData = bytes([7] * 9 + [0])
    hu = read_ct(_save(dataset, tmp_path / "slice")).hu
    np.testing.assert_array_equal(hu, np.full((1, 3, 3), 7))
    dataset.PixelData = bytes([7] * 9 + [0] * 3)
    with pytest.raises(InputError, match=r"slice: 12 bytes of pixels.* take 9"):
        read_ct(_save(dataset, tmp_path / "slice"))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", ["CT_small.dcm", "693_J2KI.dcm"])
def test_truncated(tmp_path, name, kept):
    data = (SHIPPED / name).read_bytes()
    path = tmp_path / "short.dcm"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError, match=r"short\.dcm: .*(truncated|corrupt)"):
        read_ct(path)


def test_no_pixels(tmp_path, hu):
    path = _save(ct_slice(hu[0], PixelData=None), tmp_path / "slice")
    with pytest.raises(InputError, match=r"slice: .*truncated"):
        read_ct(path)


@pytest.mark.parametrize(
    "tags, message",
    [
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour image"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour image"),
        ({"BitsAllocated": 32}, "32 bits"),
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"Rows": 60000, "Columns": 60000}, "60000 x 60000"),
        ({"Rows": 8000, "Columns": 8000}, "truncated"),
        ({"Rows": 0}, "every|at least 1|1\\.\\.8192"),
        ({"Rows": 32}, "6144 bytes of pixels, but 32 rows of 48 in 1 frame.* take 3072"),
        ({"Columns": 47}, "header is wrong"),
        ({"RescaleIntercept": "1e308"}, "do not fit"),
        ({"RescaleIntercept": "-2e5"}, "values from -2.*within 100000 of 0"),
    ],
)
def test_wrong_pixels(tmp_path, hu, tags, message):
    path = _save(ct_slice(hu[0], **tags), tmp_path / "odd.dcm")
    with pytest.raises(InputError, match=rf"odd\.dcm.*({message})"):
        read_ct(tmp_path if "NumberOfFrames" not in tags else path)


def test_a_million_frames(tmp_path, hu):
    _save(enhanced_ct(hu, NumberOfFrames=10**6, Rows=4096, Columns=4096), tmp_path / "many.dcm")
    with pytest.raises(InputError, match=r"many\.dcm.*GiB"):
        read_ct(tmp_path)


def test_shipped_colour_image(tmp_path):
    dataset = pydicom.dcmread(SHIPPED / "SC_rgb_small_odd.dcm")
    grey = ct_slice(np.zeros((3, 3)))
    for element in dataset.group_dataset(0x0028):
        grey[element.tag] = element
    grey.PixelData = dataset.PixelData
    _save(grey, tmp_path / "colour.dcm")
    with pytest.raises(InputError, match=r"colour\.dcm: a colour image \(RGB, 3 samples"):
        read_ct(tmp_path)


@pytest.mark.parametrize(
    "syntax, package", [(JPEGLSLossless, "python-gdcm"), (JPEGExtended12Bit, "python-gdcm")]
)
def test_missing_decoder_says_what_to_install(tmp_path, hu, syntax, package):
    plugins = set(pydicom.pixels.get_decoder(syntax).available_plugins) - {"pillow"}
    if plugins:
        pytest.skip(f"a decoder of {syntax.name} is installed: {plugins}")
    dataset = ct_slice(hu[0])
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    _save(dataset, tmp_path / "slice")
    with pytest.raises(InputError, match=f"slice: compressed as JPEG.*pip install {package}"):
        read_ct(tmp_path)


def test_a_film_is_no_ct(tmp_path, hu):
    dataset = ct_slice(hu[0])
    dataset.PixelData = pydicom.encaps.encapsulate([b"\0\0"])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = MPEG4HP41
    _save(dataset, tmp_path / "slice")
    with pytest.raises(InputError, match=r"slice: transfer syntax MPEG.*not supported"):
        read_ct(tmp_path)


def test_the_size_inside_a_codestream_is_checked_before_decoding(tmp_path):
    data = bytearray((SHIPPED / "693_J2KI.dcm").read_bytes())
    start = data.find(b"\xff\x4f\xff\x51")
    data[start + 8 : start + 16] = struct.pack(">2I", 60000, 60000)
    (tmp_path / "bomb.dcm").write_bytes(data)
    with pytest.raises(InputError, match=r"bomb\.dcm: .*512 x 512.*60000 x 60000"):
        read_ct(tmp_path)


def test_deflate_bomb_is_refused_before_pydicom_inflates_it(tmp_path, monkeypatch):
    dataset = ct_slice(np.full((1024, 1024), -1024))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = _save(dataset, tmp_path / "bomb.dcm")
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(dicom_files, "MAX_INFLATED_BYTES", 1 << 20)
    for module, name in ((pydicom, "dcmread"), (pydicom.filereader, "read_partial")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("inflated"))
    with pytest.raises(InputError, match=r"bomb\.dcm: inflates to more than 1 MiB"):
        read_ct(tmp_path)


def test_huge_file_is_refused_unread(tmp_path):
    with open(tmp_path / "huge.dcm", "wb") as stream:
        stream.write(bytes(128) + b"DICM")
        stream.truncate(5 << 30)  # sparse: takes no room on the disk
    with pytest.raises(InputError, match=r"huge\.dcm: 5\.0 GiB"):
        read_ct(tmp_path)
