import csv

import pytest

from lesionkit.data import synthesize
from lesionkit.errors import InputError


@pytest.mark.parametrize(
    "held_out, sizes",
    [((0.15, 0.15), [4, 1, 1]), ((0.0, 0.5), [2, 1, 3]), ((0.5, 0.49), [1, 3, 2])],
)
def test_patients_are_held_out_in_the_shares_asked_for(tmp_path, monkeypatch, held_out, sizes):
    monkeypatch.setattr("lesionkit.data.synthetic._write_patient", _one_row)
    synthesize(tmp_path / "data", 6, workers=1, held_out=held_out)
    with open(tmp_path / "data" / "DL_info.csv", newline="") as stream:
        splits = [int(row["Train_Val_Test"]) for row in csv.DictReader(stream)]
    assert [splits.count(split) for split in (1, 2, 3)] == sizes


@pytest.mark.parametrize("held_out", [(-0.1, 0.2), (0.5, 0.5)])
def test_shares_that_cannot_be(tmp_path, held_out):
    with pytest.raises(InputError, match="held_out"):
        synthesize(tmp_path / "data", 6, held_out=held_out)
    assert not (tmp_path / "data").exists()


def _one_row(images, seed, image_size, patient):
    from lesionkit.data.deeplesion import DL_INFO_COLUMNS

    images.parent.mkdir(parents=True, exist_ok=True)
    return [dict.fromkeys(DL_INFO_COLUMNS, 0) | {"Patient_index": patient}]
