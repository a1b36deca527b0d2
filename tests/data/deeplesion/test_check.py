import json
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from lesionkit.data import DeepLesion, write_dl_info
from lesionkit.data.deeplesion.check import check_deeplesion
from lesionkit.data.deeplesion.check.problems import as_ranges
from lesionkit.errors import InputError

from .files import row, write_nifti, write_slices

SPACING = (0.8125, 0.8125, 5.0)
AXES = {
    "Measurement_coordinates": (11.0, 12.0, 31.0, 12.0, 21.0, 8.0, 21.0, 16.0),
    "Image_size": (40, 30),
}


def good(name="000001_01_02_010.png", **changes):
    """A row of an image of 40 x 30 pixels."""
    patient, study, series, _ = name.split("_")
    ids = {"Patient_index": int(patient), "Study_index": int(study), "Series_ID": int(series)}
    return row(name, **(AXES | ids | changes))


@pytest.fixture
def hu():
    return np.random.default_rng(5).integers(-1024, 3000, (5, 30, 40)).astype(np.int16)


@pytest.fixture
def root(tmp_path, hu):
    write_slices(tmp_path / "Images_png" / "000001_01_02", hu)
    write_slices(tmp_path / "Images_png" / "000002_01_01", hu)
    rows = [good(), good("000002_01_01_009.png", Train_Val_Test=1), good("000002_01_01_011.png")]
    rows[2] |= {"Train_Val_Test": 1, "Possibly_noisy": 1}
    write_dl_info(tmp_path / "DL_info.csv", rows)
    return tmp_path


def found(root, **options):
    report = check_deeplesion(root, **options)
    return [(p.severity, p.kind, p.where, p.message) for p in report.problems]


def test_a_whole_folder_is_clean(root):
    seen = []
    report = check_deeplesion(root, progress=lambda *step: seen.append(step))
    assert report.problems == report.errors == []
    assert (report.series, report.slices) == (2, 10)
    assert seen == [(1, 2, "0 problems"), (2, 2, "0 problems")]
    assert report.splits["train"] == {
        "patients": 1,
        "images": 2,
        "images_without_noisy": 1,
        "boxes": 2,
        "boxes_without_noisy": 1,
        "types": {"lung": 1},
    }
    assert report.splits["test"]["boxes"] == 1
    assert report.splits["val"]["images"] == 0
    assert json.loads(json.dumps(report.to_dict()))["format"] == "lesionkit-data-check-1"


def test_worker_processes_find_the_same(root):
    (root / "Images_png" / "000001_01_02" / "009.png").unlink()
    report = check_deeplesion(root, workers=2)
    assert report == check_deeplesion(root, workers=0)
    assert len(report.problems) == 1


def test_missing_slices(root):
    for number in (8, 9, 10, 12):
        (root / "Images_png" / "000001_01_02" / f"{number:03d}.png").unlink()
    ((severity, kind, where, message),) = found(root)
    assert (severity, kind, where) == ("error", "missing", "000001_01_02")
    assert "slices 8-10, 12 are missing, key slices 10 among them" in message
    assert found(root, quick=True) == found(root)
    assert found(root, split="train") == []


def test_files_that_are_no_slices(root, hu):
    folder = root / "Images_png" / "000001_01_02"
    damaged = bytearray((folder / "009.png").read_bytes())
    damaged[200] ^= 4
    (folder / "009.png").write_bytes(damaged)
    (folder / "010.png").write_bytes(b"")
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(folder / "011.png")
    write_slices(folder, hu[:1, :, :39], first=12)
    other = root / "Images_png" / "000002_01_01"
    Image.fromarray((hu[0] + 1024).astype(np.uint16)).save(other / "008.png")
    unreadable, size, values = found(root)
    assert unreadable[:3] == ("error", "unreadable", "000001_01_02")
    assert "009.png" in unreadable[3]
    assert "(and slices 10-11)" in unreadable[3]
    assert size[:3] == ("error", "size", "000001_01_02")
    assert "012.png: 39 x 30 pixels; Image_size says 40 x 30" in size[3]
    assert values[:3] == ("error", "values", "000002_01_01")
    assert "HU + 32768" in values[3]
    assert found(root, quick=True) == []


@pytest.mark.parametrize(
    "change, severity, kind, message",
    [
        ({"Bounding_boxes": (-6.0, 3, 36, 21)}, "error", "box", "40 x 30 pixels by 7.0"),
        ({"Bounding_boxes": (6.0, 3, 36, 35.6)}, "error", "box", "by 5.6"),
        ({"Slice_range": (8, 9)}, "error", "inconsistent", "10 is outside Slice_range 8, 9"),
        ({"Slice_range": (12, 8)}, "error", "inconsistent", "outside Slice_range"),
        ({"Spacing_mm_px_": (0.8, 0.9, 5)}, "error", "inconsistent", "0.8 x 0.9 mm are not"),
        ({"Spacing_mm_px_": (0.8, 0.8, 1e-5)}, "error", "inconsistent", "1e-05 mm apart"),
        ({"Spacing_mm_px_": (0.8, 0.8, -5)}, "warning", "inconsistent", "rows 0: the slice int"),
        ({"Spacing_mm_px_": (0.8, 0.8, "nan")}, "warning", "inconsistent", "is unknown"),
        ({"Series_ID": 3}, "warning", "inconsistent", "patient 1, study 1, series 3"),
        ({"Lesion_diameters_Pixel_": (20.0, 8.2)}, "warning", "inconsistent", "0.20 pixels off"),
        ({"Coarse_lesion_type": 9}, "error", "row", "line 2: Coarse_lesion_type"),
        ({"Slice_range": (1, 1e9)}, "error", "row", "line 2: Slice_range"),
    ],
)
def test_a_wrong_row(root, change, severity, kind, message):
    write_dl_info(root / "DL_info.csv", [good(**change)])
    (problem,) = found(root)
    assert problem[:2] == (severity, kind)
    assert message in problem[3]


def test_what_deeplesion_itself_has_is_no_problem(root):
    unknown = {"Measurement_coordinates": ("nan",) * 8, "Lesion_diameters_Pixel_": ("nan",) * 2}
    rows = [good(Bounding_boxes=(-3.9, 3.5, 44.9, 34.9), Coarse_lesion_type=-1), good(**unknown)]
    write_dl_info(root / "DL_info.csv", rows)
    assert found(root) == []


def test_rows_that_disagree(root):
    rows = [
        good(),
        good(),
        good("000001_01_02_009.png", Spacing_mm_px_=(0.8125, 0.8125, 1.0)),
        good("000001_01_02_011.png", Train_Val_Test=2),
        good("000002_01_01_009.png", Spacing_mm_px_=(0.8, 0.8, "nan")),
        good("000002_01_01_010.png", Spacing_mm_px_=(0.8, 0.8, "nan")),  # unknown twice agrees
    ]
    write_dl_info(root / "DL_info.csv", rows)
    duplicate, _, patient, series = found(root)
    assert duplicate[:3] == ("warning", "duplicate", "000001_01_02_010.png")
    assert "row 1" in duplicate[3]
    assert patient[:3] == ("error", "inconsistent", "1")
    assert "Train_Val_Test differs within the patient: 2 and 3" in patient[3]
    assert series[:3] == ("warning", "inconsistent", "000001_01_02")
    assert "0.8125, 0.8125, 1 and 0.8125, 0.8125, 5" in series[3]


def test_own_splits(root):
    path = root / "splits.csv"
    path.write_text("file_name,split\n000002_01_01_009.png,train\n000002_01_01_011.png,test\n")
    (problem,) = found(root, split_file=path)
    assert "Train_Val_Test differs" in problem[3]
    assert check_deeplesion(root, split_file=path).splits["test"]["images"] == 1


def test_nifti_volumes(tmp_path, hu):
    images = tmp_path / "Images_nifti"
    for name in ("000001_01_02_008-012", "000002_01_01_008-012"):
        write_nifti(images / f"{name}.nii.gz", hu, SPACING)
    rows = [good(), good("000002_01_01_009.png"), good("000002_01_01_011.png")]
    write_dl_info(tmp_path / "DL_info.csv", rows)
    report = check_deeplesion(tmp_path)
    assert (report.problems, report.slices) == ([], 10)
    write_nifti(images / "000001_01_02_008-012.nii.gz", hu[:, :29], (0.7, 0.7, 5.0))
    path = images / "000002_01_01_008-012.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])
    spacing, size, unreadable = found(tmp_path)
    assert "spacing 0.7 x 0.7 x 5 mm is not that of DL_info.csv" in spacing[3]
    assert "40 x 29 pixels; Image_size says 40 x 30" in size[3]
    assert unreadable[:3] == ("error", "unreadable", "000002_01_01")
    path.rename(images / "000002_01_01_008-010.nii.gz")
    assert "slices 8-12 are missing, key slices 9, 11 among" in found(tmp_path)[-1][3]


def test_what_cannot_be_opened(tmp_path, hu):
    write_dl_info(tmp_path / "DL_info.csv", [good()])
    (tmp_path / "Images_nifti" / "000001_01_02_008-012.nii.gz").mkdir(parents=True)
    ((_, kind, where, message),) = found(tmp_path)
    assert (kind, where) == ("unreadable", "000001_01_02")
    assert "008-012.nii.gz" in message
    write_slices(tmp_path / "Images_png" / "000001_01_02", hu)
    (tmp_path / "Images_png" / "000001_01_02" / "009.png").unlink()
    (tmp_path / "Images_png" / "000001_01_02" / "009.png").mkdir()
    ((_, kind, where, message),) = found(tmp_path)
    assert (kind, where) == ("unreadable", "000001_01_02")
    assert "009.png" in message


def test_no_slices_at_all(tmp_path):
    write_dl_info(tmp_path / "DL_info.csv", [good(), good("000002_01_01_009.png")])
    ((severity, kind, _, message),) = found(tmp_path)
    assert (severity, kind) == ("error", "missing")
    assert "no slices in Images_png" in message


def test_an_empty_table(tmp_path):
    write_dl_info(tmp_path / "DL_info.csv", [])
    assert found(tmp_path) == []


def test_random_bytes_in_the_table(root):
    path = root / "DL_info.csv"
    original = np.frombuffer(path.read_bytes(), np.uint8)
    random = np.random.default_rng(4)
    begin, refused = len(original) - 300, []  # in the rows
    for _ in range(150):
        data = original.copy()
        places = random.integers(begin, len(data), random.integers(1, 5))
        data[places] = random.integers(0, 256, len(places))
        path.write_bytes(data)
        try:
            records = DeepLesion(root, drop_noisy=False)
        except InputError as error:
            refused.append(str(error))
            with suppress(InputError):  # where the whole file is no text
                assert check_deeplesion(root, quick=True).errors
        else:
            assert len(records.lesions) == 3 or b"\n" in data[places].tobytes()
            assert isinstance(check_deeplesion(root, quick=True).problems, list)
    assert 30 < len(refused) < 150
    assert all(str(path) in message for message in refused)


def test_wrong_arguments(root):
    with pytest.raises(InputError, match="split must be one of"):
        check_deeplesion(root, split="validation")
    with pytest.raises(InputError, match="workers must be"):
        check_deeplesion(root, workers=-1)
    with pytest.raises(InputError, match="not a folder"):
        check_deeplesion(root / "DL_info.csv")


def test_ranges_as_text():
    assert as_ranges([5, 3, 4, 9, 11, 12]) == "3-5, 9, 11-12"
    assert as_ranges([]) == ""
