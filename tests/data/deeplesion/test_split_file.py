from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesionkit.data import DeepLesion, write_dl_info
from lesionkit.data.deeplesion import read_dl_info
from lesionkit.data.deeplesion.split_file import read_split_file
from lesionkit.errors import InputError

from .files import row


@pytest.fixture
def root(tmp_path):
    rows = [
        row(f"{patient:06d}_01_01_{number:03d}.png", Patient_index=patient, Train_Val_Test=1)
        for patient in (1, 2, 3, 39)
        for number in (5, 6)
    ]
    write_dl_info(tmp_path / "DL_info.csv", rows)
    return tmp_path


def split_file(root, text):
    path = root / "splits.csv"
    path.write_text(text)
    return path


def names(root, **options):
    return [
        record.file_name[3:6] + record.file_name[-7:-4] for record in DeepLesion(root, **options)
    ]


def test_splits_by_patient_replace_those_of_the_table(root):
    path = split_file(root, "patient,split\n1,test\n000039,train\n2,val\n")
    assert names(root, split="train", split_file=path) == ["039005", "039006"]
    assert names(root, split="val", split_file=path) == ["002005", "002006"]
    assert names(root, split="test", split_file=path) == ["001005", "001006"]
    # What the file does not name is in no split.
    assert len(DeepLesion(root, split_file=path)) == 6
    records = DeepLesion(root, split="test", split_file=path)
    assert [lesion.split for lesion in records.lesions] == [3, 3]
    assert [lesion.lesion_id for lesion in records.lesions] == [0, 1]
    assert len(DeepLesion(root, split="train")) == 8


def test_splits_by_file_name(root):
    text = "note, split ,file_name\nx,train,000001_01_01_005.png\ny, val,000001_01_01_006.png\n"
    path = split_file(root, text)
    assert names(root, split="train", split_file=path) == ["001005"]
    assert names(root, split="val", split_file=path) == ["001006"]
    assert names(root, split="test", split_file=path) == []


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "line 1: columns \\(none\\)"),
        ("patient\n1\n", "line 1: columns patient"),
        ("split,what\ntrain,1\n", "line 1: "),
        ("patient,file_name,split\n1,a,train\n", "line 1: "),
        ("patient,split\n1,training\n", "line 2: split must be one of train, val, test.*training"),
        ("patient,split\n1,train\n1\n", "line 3: split must be"),
        ("patient,split\none,train\n", "line 2: patient must be .*'one'"),
        ("patient,split\n,train\n", "line 2: patient must be"),
        ("patient,split\n-1,train\n", "line 2: patient"),
        ("patient,split\n1.0,train\n", "line 2: patient"),
        ("patient,split\n" + "9" * 5000 + ",train\n", "line 2: patient"),
        ("patient,split\n\u0661,train\n", "line 2: patient"),
        ("patient,split\n1,train\n01,val\n", "line 3: patient 1 is in another split"),
        ("patient,split\n1,train\n7,val\n4,val\n", r"2 of 3 entries are not in DL_info.csv \(4, 7"),
        ("file_name,split\n000001_01_01_005,train\n", "1 of 1 entries are not in DL_info.csv"),
        ("patient,split\n1,\x00train\n", ""),
        ('patient,split\n"' + "x" * 200_000, "not a CSV text"),
    ],
)
def test_wrong_files_are_refused(root, text, message):
    path = split_file(root, text)
    with pytest.raises(InputError, match=f"{path}.*{message}"):
        DeepLesion(root, split="train", split_file=path)


def test_no_file_or_no_text(root):
    with pytest.raises(InputError, match=r"gone\.csv: No such file"):
        DeepLesion(root, split_file=root / "gone.csv")
    (root / "splits.csv").write_bytes(b"patient,split\n\xff\xfe,train\n")
    with pytest.raises(InputError, match="not a CSV text"):
        DeepLesion(root, split_file=root / "splits.csv")


@given(st.dictionaries(st.integers(0, 10**9 - 1), st.sampled_from(["train", "val", "test"])))
def test_what_is_written_is_read(tmp_path_factory, splits):
    path = tmp_path_factory.getbasetemp() / "splits.csv"
    path.write_text("patient,split\n" + "".join(f"{p},{s}\n" for p, s in splits.items()))
    numbers = {"train": 1, "val": 2, "test": 3}
    assert read_split_file(path) == ("patient", {p: numbers[s] for p, s in splits.items()})


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "bytes.csv"
    for text in (data, b"patient,split\n" + data):
        path.write_bytes(text)
        with suppress(InputError):
            name, splits = read_split_file(path)
            assert name in ("patient", "file_name")
            assert set(splits.values()) <= {1, 2, 3}


def test_a_table_is_a_sequence_of_lesions(root):
    table = read_dl_info(root / "DL_info.csv")
    assert len(table) == 8
    assert [lesion.key_slice for lesion in table[2:4]] == [5, 6]
    assert table[-1].patient == 39
    assert [lesion.lesion_id for lesion in table] == list(range(8))
    np.testing.assert_array_equal(table.column("patient"), [1, 1, 2, 2, 3, 3, 39, 39])
    assert table.column("box").shape == (8, 4)
    assert len(read_dl_info(root / "DL_info.csv")[5:5]) == 0
