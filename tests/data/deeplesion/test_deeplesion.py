import pickle

import numpy as np
import pytest

from lesionkit.data import DL_INFO_COLUMNS, DeepLesion, write_dl_info
from lesionkit.data.deeplesion import LESION_TYPES, read_dl_info
from lesionkit.errors import InputError

from .files import dataset, row


def test_a_row_comes_back(tmp_path):
    (record,) = dataset(tmp_path, [row()])
    assert (record.file_name, record.folder) == ("000001_01_02_010.png", "000001_01_02")
    assert (record.patient, record.key_slice, record.slice_range) == (1, 10, (8, 12))
    assert record.spacing == (0.8125, 0.8125, 5.0)
    assert record.image_size == (512, 512)
    assert record.boxes.dtype == np.float32
    np.testing.assert_array_equal(record.boxes, [[5, 2.5, 35, 20.5]])  # 0-based
    (lesion,) = record.lesions
    assert lesion.measurement == (10, 11, 30, 11, 20, 7.5, 20, 15.5)
    assert (lesion.lesion_id, lesion.study, lesion.series, lesion.split) == (0, 1, 2, 3)
    assert LESION_TYPES[lesion.lesion_type] == "lung"
    assert (lesion.diameters_px, lesion.window) == ((20, 8), (-1500, 500))
    assert (lesion.gender, lesion.age, lesion.noisy) == ("F", 62.0, False)


def test_the_file_looks_like_the_original(tmp_path):
    write_dl_info(tmp_path / "DL_info.csv", [row()])
    header, line = (tmp_path / "DL_info.csv").read_text().splitlines()
    assert header == ",".join(DL_INFO_COLUMNS)
    assert len(DL_INFO_COLUMNS) == 18
    assert line == (
        '000001_01_02_010.png,1,1,2,10,"11, 12, 31, 12, 21, 8.5, 21, 16.5","6, 3.5, 36, 21.5",'
        '"20, 8","0.25, 0.5, 0.75",5,0,"8, 12","0.8125, 0.8125, 5","512, 512","-1500, 500",F,62,3'
    )


def test_missing_column_in_a_row_to_write(tmp_path):
    incomplete = row()
    del incomplete["Slice_range"]
    with pytest.raises(ValueError, match="Slice_range"):
        write_dl_info(tmp_path / "DL_info.csv", [incomplete])
    assert not (tmp_path / "DL_info.csv").exists()


def test_the_unit_is_the_key_slice(tmp_path):
    rows = [
        row("000001_01_01_010.png", Spacing_mm_px_=(0.5, 0.5, 1.0)),
        row("000001_01_01_020.png"),
        row("000001_01_01_010.png"),
    ]
    first, second = dataset(tmp_path, rows)
    assert [lesion.lesion_id for lesion in first.lesions] == [0, 2]
    assert first.boxes.shape == (2, 4)
    assert first.spacing == (0.5, 0.5, 1.0)
    assert [lesion.lesion_id for lesion in second.lesions] == [1]


def test_noisy_boxes_go_first_then_images_without_any(tmp_path):
    noisy = {"Possibly_noisy": 1}
    rows = [
        row("000001_01_01_010.png", **noisy),
        row("000001_01_01_010.png"),
        row("000001_01_01_020.png", **noisy),
    ]
    (record,) = dataset(tmp_path, rows)
    assert [lesion.lesion_id for lesion in record.lesions] == [1]
    assert len(DeepLesion(tmp_path, drop_noisy=False)) == 2


def test_splits(tmp_path):
    rows = [row(f"00000{s}_01_01_010.png", Train_Val_Test=s) for s in (1, 2, 3)]
    write_dl_info(tmp_path / "DL_info.csv", rows)
    for number, split in enumerate(("train", "val", "test"), 1):
        (record,) = DeepLesion(tmp_path, split=split)
        assert record.lesions[0].split == number
    assert len(DeepLesion(tmp_path)) == 3
    with pytest.raises(ValueError, match="'validation'"):
        DeepLesion(tmp_path, split="validation")


def test_diameters_and_interval_in_millimetres(tmp_path):
    rows = [row(), row(Lesion_diameters_Pixel_=(float("nan"), float("nan")))]
    ((lesion, unknown),) = (record.lesions for record in dataset(tmp_path, rows))
    assert lesion.diameter_mm() == lesion.diameter_mm("long") == 20 * 0.8125
    assert lesion.diameter_mm("short") == 8 * 0.8125
    assert lesion.diameter_mm("mean") == 14 * 0.8125
    assert lesion.interval == 5.0
    assert np.isnan(unknown.diameter_mm())
    with pytest.raises(ValueError, match="long, short, mean, got 'area'"):
        lesion.diameter_mm("area")


def test_it_is_a_sequence(tmp_path):
    rows = [row(f"000001_01_01_{n:03d}.png") for n in range(1, 5)]
    found = dataset(tmp_path, rows)
    assert len(found) == 4
    assert found[-1].key_slice == 4
    assert [record.key_slice for record in found[1:3]] == [2, 3]
    assert found[np.int64(2)].key_slice == 3
    for index in (4, -5):
        with pytest.raises(IndexError):
            found[index]
    assert [record.key_slice for record in pickle.loads(pickle.dumps(found))] == [1, 2, 3, 4]


def test_unknown_values(tmp_path):
    rows = [
        row(Coarse_lesion_type=-1, Patient_age=float("nan"), Patient_gender="NaN"),
        row(Spacing_mm_px_=(0.8, 0.8, float("nan")), Patient_age=""),
    ]
    ((first, second),) = (record.lesions for record in dataset(tmp_path, rows))
    assert first.lesion_type == -1
    assert LESION_TYPES[-1] == "unknown"
    assert np.isnan([first.age, second.age, second.spacing[2]]).all()
    assert first.gender == ""


def test_another_table(tmp_path):
    write_dl_info(tmp_path / "mine.csv", [row(), row("000002_01_01_001.png")])
    assert len(DeepLesion(tmp_path, csv=tmp_path / "mine.csv")) == 2
    with pytest.raises(InputError, match=r"DL_info\.csv: No such file"):
        DeepLesion(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        DeepLesion(tmp_path / "mine.csv")


@pytest.mark.parametrize(
    "column, value",
    [
        ("File_name", "000001_01_02_011.png"),
        ("File_name", "../../etc_010.png"),
        ("File_name", "000001_01_02_010.jpg"),
        ("Key_slice_index", "ten"),
        ("Bounding_boxes", "1, 2, 3"),
        ("Bounding_boxes", "1, 2, nan, 4"),
        ("Bounding_boxes", "30, 2, 3, 4"),
        ("Measurement_coordinates", ""),
        ("Coarse_lesion_type", 9),
        ("Possibly_noisy", "no"),
        ("Slice_range", "8"),
        ("Slice_range", "8.5, 12"),
        ("Slice_range", "-1, 12"),
        ("Slice_range", "1, 1e300"),
        ("Image_size", "512, 1e300"),
        ("Patient_index", "9" * 30),
        ("Patient_gender", "M" * 17),
        ("DICOM_windows", "-inf, 500"),
        ("Spacing_mm_px_", "0, 0, 5"),
        ("Spacing_mm_px_", "700, 700, 5"),
        ("Patient_age", "old"),
        ("Train_Val_Test", 4),
    ],
)
def test_malformed_value_names_file_and_line(tmp_path, column, value):
    write_dl_info(tmp_path / "DL_info.csv", [row(), row(**{column: value})])
    name = "" if column == "Patient_age" else column
    with pytest.raises(InputError, match=rf"DL_info\.csv, line 3: .*{name}"):
        DeepLesion(tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda data: data[:-30], "line 2: too few columns"),
        (lambda data: data.replace(b"Bounding_boxes", b"boxes"), "line 1: .*Bounding_boxes"),
        (lambda data: b"", "line 1: "),
        (lambda data: data + b"\xff\xfe", "not a CSV text"),
        (lambda data: data + b'"' + b"x" * 200_000, "not a CSV text"),
    ],
)
def test_malformed_table(tmp_path, change, message):
    path = tmp_path / "DL_info.csv"
    write_dl_info(path, [row()])
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=f"{path}.*{message}"):
        read_dl_info(path)
