"""NRRD: geometry that must be there, and pixels that must be whole."""

import numpy as np
import pytest

from lesionkit.data import read_ct
from lesionkit.errors import InputError
from tests.data.images.files import replace, write


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr"])
def test_nrrd_without_spacing(tmp_path, suffix):
    path = write(tmp_path / f"scan{suffix}", replace(**{"space directions": ""}))
    with pytest.raises(InputError, match=f"{path}: no spacing .*space directions.*; convert"):
        read_ct(path)
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


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr"])
def test_without_a_place_in_the_patient(tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    bare = {"space:": "", "space origin": "", "space directions": "spacings: 0.7 0.8 2.5\n"}
    with pytest.raises(InputError, match=f"{path}: no orientation .*left and right are not known"):
        read_ct(write(path, replace(**bare)))
    for origin in ("", "space origin: (nan,nan,nan)\n", "space origin: none\n"):
        with pytest.raises(InputError, match=f"{path}: no orientation or position .`space origin"):
            read_ct(write(path, replace(**{"space origin": origin})))


@pytest.mark.parametrize(
    "space, corner",
    [
        ("left-posterior-superior", (1, 2, 3)),
        ("LPS", (1, 2, 3)),
        ("right-anterior-superior", (-1 - 39 * 0.7, -2 - 29 * 0.8, 3)),
        ("LAS", (1, -2 - 29 * 0.8, 3)),
        ("scanner-xyz", None),
        ("3D-right-handed", None),
    ],
)
def test_spaces(tmp_path, space, corner):
    change = replace(**{"space:": f"space: {space}\n", "space origin": "space origin: (1,2,3)\n"})
    path = write(tmp_path / "scan.nrrd", change)
    if corner is None:
        with pytest.raises(InputError, match=f"space: {space}` names no patient axes"):
            read_ct(path)
    else:
        np.testing.assert_allclose(read_ct(path).origin, corner, atol=1e-6)


@pytest.mark.parametrize("name", ["scan.nrrd", "scan.nhdr"])
def test_compressed_pixels_are_verified(tmp_path, name):
    hu = np.random.default_rng(0).integers(-1000, 1000, (20, 30, 40)).astype(np.int16)
    path = write(tmp_path / name, values=hu, packed=True)
    np.testing.assert_array_equal(read_ct(path).hu, hu)
    pixels = path.with_suffix(".raw.gz") if name == "scan.nhdr" else path
    whole = pixels.read_bytes()
    for place in (len(whole) // 3, len(whole) // 2, len(whole) - 6):
        pixels.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        with pytest.raises(InputError, match=f"{path.parent}.*(truncated|corrupt)"):
            read_ct(path)
    for cut in (len(whole) // 2, 40, 4):  # the last takes of the checksum alone
        pixels.write_bytes(whole[:-cut])
        with pytest.raises(InputError, match=f"{path.parent}.*truncated"):
            read_ct(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("depth", [10, 21])
def test_a_header_of_another_size(tmp_path, packed, depth):
    path = write(tmp_path / "scan.nrrd", replace(sizes=f"sizes: 40 30 {depth}\n"), packed=packed)
    with pytest.raises(InputError, match=f"{path}: .*(truncated|the header is wrong)"):
        read_ct(path)


@pytest.mark.parametrize(
    "line", ["data file: LIST", "data file: s%03d.raw 1 20 1", "line skip: 1", "encoding: ascii"]
)
def test_what_is_not_supported(tmp_path, line):
    if line.startswith("line"):
        change = replace(endian=f"endian: little\n{line}\n")
    else:
        change = replace(**{line.partition(":")[0]: line + "\n"})
    path = write(tmp_path / "scan.nhdr", change)
    with pytest.raises(InputError, match=f"{path}: .*(not supported|cannot be read)"):
        read_ct(path)
