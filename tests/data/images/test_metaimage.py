"""MetaImage: geometry that must be there, and pixels that must be whole."""

import numpy as np
import pytest
import SimpleITK as sitk

from lesionkit.data import read_ct
from lesionkit.errors import InputError
from tests.data.images.files import replace, write


@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
def test_meta_image_without_spacing(tmp_path, suffix):
    path = write(tmp_path / f"scan{suffix}", replace(ElementSpacing=""))
    with pytest.raises(InputError, match=f"{path}: no spacing .ElementSpacing is missing.*; set"):
        read_ct(path)
    path = write(path, replace(ElementSpacing="ElementSize = 0.7 0.8 2.5\n"))
    assert read_ct(path).spacing == (0.7, 0.8, 2.5)


GEOMETRY = {
    "TransformMatrix": "TransformMatrix = 1 0 0 0 1 0 0 0 1",
    "Offset": "Offset = 0 0 0",
    "ElementSpacing": "ElementSpacing = 0.7 0.8 2.5",
}


@pytest.mark.parametrize("key, so", [("TransformMatrix", "orientation"), ("Offset", "position")])
@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
def test_without_a_place_in_the_patient(tmp_path, suffix, key, so):
    """AnatomicalOrientation is there, but SimpleITK passes it over."""
    path = write(tmp_path / f"scan{suffix}", replace(**{key: ""}))
    assert b"AnatomicalOrientation = RAI" in path.read_bytes()
    with pytest.raises(InputError, match=f"{path}: no {so} .{key} is missing.*; set {key}"):
        read_ct(path)


@pytest.mark.parametrize(
    "key, names",
    [("TransformMatrix", ("Rotation", "Orientation")), ("Offset", ("Position", "Origin"))],
)
def test_other_names_of_geometry(tmp_path, key, names):
    for name in names:
        line = GEOMETRY[key].replace(key, name) + "\n"
        assert read_ct(write(tmp_path / "scan.mha", replace(**{key: line}))).spacing[2] == 2.5
        both = GEOMETRY[key] + "\n" + line
        with pytest.raises(InputError, match=f"has {key} and {name}"):
            read_ct(write(tmp_path / "scan.mha", replace(**{key: both})))


@pytest.mark.parametrize("key", GEOMETRY)
@pytest.mark.parametrize("bad", ["x", "1 1", "nan 1 1", "1 1 1 1 1 1 1 1 x", "inf 1 1"])
def test_geometry_that_is_no_numbers(tmp_path, key, bad):
    path = write(tmp_path / "scan.mha", replace(**{key: f"{key} = {bad}\n"}))
    with pytest.raises(InputError, match=f"{path}: "):
        read_ct(path)


@pytest.mark.parametrize(
    "line, message",
    [
        ("ElementSpacing = 9 9 9", "ElementSpacing twice"),
        ("DistanceUnits = cm", "DistanceUnits = cm; write its geometry in mm"),
        ("ElementToIntensityFunctionSlope = 2", "Slope = 2, which readers pass over"),
        ("ElementToIntensityFunctionOffset = -1024", "Offset = -1024, which readers pass over"),
        ("HeaderSize = 7", "bytes of pixels, but its header's sizes make 48000"),
        ("HeaderSize = -2", "HeaderSize = '-2' is no number"),
    ],
)
def test_lines_that_simpleitk_passes_over(tmp_path, line, message):
    path = write(tmp_path / "scan.mha", replace(NDims=f"NDims = 3\n{line}\n"))
    with pytest.raises(InputError, match=f"{path}: .*{message}"):
        read_ct(path)


@pytest.mark.parametrize("kind", ["Text", "LIST", "slice%03d.raw 1 20 1"])
def test_kinds_of_pixels_that_are_not_supported(tmp_path, kind):
    if kind == "Text":
        change = replace(BinaryData="BinaryData = False\n")
    else:
        change = replace(ElementDataFile=f"ElementDataFile = {kind}\n")
    path = write(tmp_path / "scan.mhd", change)
    with pytest.raises(InputError, match=f"{path}: its pixels are (text|in several files)"):
        read_ct(path)


@pytest.mark.parametrize("name", ["scan.mha", "scan.mhd"])
def test_compressed_pixels_are_verified(tmp_path, name):
    hu = np.random.default_rng(0).integers(-1000, 1000, (20, 30, 40)).astype(np.int16)
    path = write(tmp_path / name, values=hu, packed=True)
    np.testing.assert_array_equal(read_ct(path).hu, hu)
    pixels = path.with_suffix(".zraw") if name == "scan.mhd" else path
    whole = pixels.read_bytes()
    for place in (len(whole) // 3, len(whole) // 2, len(whole) - 2):
        pixels.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        with pytest.raises(InputError, match=f"{pixels}: .*(truncated|corrupt)"):
            read_ct(path)
    for kept in (0.5, 0.9, 0.9999):
        pixels.write_bytes(whole[: int(len(whole) * kept)])
        with pytest.raises(InputError, match=f"{pixels}: .*truncated"):
            read_ct(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("depth", [10, 19, 21])
def test_a_header_of_another_size(tmp_path, packed, depth):
    """Half the slices would be a scan that is not all there."""
    path = write(
        tmp_path / "scan.mha", replace(DimSize=f"DimSize = 40 30 {depth}\n"), packed=packed
    )
    with pytest.raises(InputError, match=f"{path}: .*(truncated|the header is wrong)"):
        read_ct(path)


def test_header_size(tmp_path):
    path = write(tmp_path / "scan.mhd", replace(NDims="NDims = 3\nHeaderSize = -1\n"))
    whole = (tmp_path / "scan.raw").read_bytes()
    (tmp_path / "scan.raw").write_bytes(b"another header" + whole)
    np.testing.assert_array_equal(read_ct(path).hu.ravel(), np.frombuffer(whole, "<i2"))


@pytest.mark.parametrize("where", ["/etc/passwd", "../scan.raw", "sub/../../scan.raw", "~/a.raw"])
@pytest.mark.parametrize(
    "name, line", [("scan.mhd", "ElementDataFile = {}\n"), ("scan.nhdr", "data file: {}\n")]
)
def test_pixels_elsewhere(tmp_path, name, line, where):
    for folder in ("sub", "~"):
        (tmp_path / "in" / folder).mkdir(parents=True)
    for raw in ("scan.raw", "in/~/a.raw"):
        (tmp_path / raw).write_bytes(bytes(48000))
    key = line.partition(" {")[0].rstrip("= ")
    path = write(tmp_path / "in" / name, replace(**{key: line.format(where)}))
    with pytest.raises(InputError, match=f"{path}: names '{where}' .*own folder; move"):
        read_ct(path)


def test_what_is_printed_of_a_failure_is_raised(tmp_path, monkeypatch):
    """Whatever the checks do not know of: SimpleITK's libraries print it and return a volume."""
    path = write(tmp_path / "scan.mha", packed=True)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)
    monkeypatch.setattr("lesionkit.data.images.metaimage.check_packed", lambda *_: None)
    assert sitk.ReadImage(str(path)).GetSize() == (40, 30, 20)
    with pytest.raises(InputError, match=f"{path}: .*Uncompress failed.*corrupt"):
        read_ct(path)
