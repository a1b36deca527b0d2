"""Damaged scans: a volume or an InputError that names the file, and nothing else."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from lesionkit.data import read_ct
from lesionkit.errors import InputError

CT_SMALL = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"


@pytest.mark.parametrize(
    "suffix, header, files",
    [(".dcm", 3000, 300), (".nii", 352, 300), (".nrrd", 300, 100), (".mha", 300, 100)],
)
def test_random_bytes(tmp_path, suffix, header, files):
    path = tmp_path / f"scan{suffix}"
    random = np.random.default_rng(4)
    if suffix == ".dcm":
        shutil.copy(CT_SMALL, path)
    else:
        hu = random.integers(-1024, 3000, (3, 4, 5)).astype(np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(hu), str(path))
    original = np.fromfile(path, np.uint8)
    refused = []
    for _ in range(files):
        data = original.copy()
        places = random.integers(0, min(header, len(data)), random.integers(1, 8))
        data[places] = random.integers(0, 256, len(places))
        path.write_bytes(data[: random.integers(1, len(data))] if random.random() < 0.2 else data)
        try:
            assert read_ct(path).hu.ndim == 3
        except InputError as error:
            refused.append(str(error))
    assert files / 6 < len(refused) < files
    assert all(str(path) in message for message in refused)
