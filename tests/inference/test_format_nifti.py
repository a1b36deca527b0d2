"""Label volumes read by two libraries that are not ours."""

from dataclasses import replace

import numpy as np
import pytest

from lesionkit.errors import InputError
from lesionkit.inference import Detection, Finding, ScanResults, write_results
from lesionkit.inference.formats import check_formats

from .scans import DIRECTIONS, results, scan


def labels_of(folder):
    """Labels [x, y, slice] and the affine to RAS mm."""
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(folder / "findings.nii.gz")
    assert image.header["xyzt_units"] == 2
    return np.asarray(image.dataobj), image.affine


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_labels_are_where_the_boxes_are(tmp_path, direction):
    volume = scan(direction)
    write_results(tmp_path, results(volume), ["nifti"])
    labels, affine = labels_of(tmp_path)
    assert labels.shape == (60, 40, 9)
    assert labels.dtype == np.uint8
    ras = np.array([(1, 2, 3), (59, 0, 8), (0, 39, 0)]) @ affine[:3, :3].T + affine[:3, 3]
    lps = volume.to_lps([(1, 2, 3), (59, 0, 8), (0, 39, 0)])
    np.testing.assert_allclose(ras, lps * [-1, -1, 1], atol=1e-3)
    # Places 1.6, 2.4 and 3.2: the first two are as near to slice 2, the first scores higher.
    assert sorted(set(np.argwhere(labels == 1)[:, 2])) == [2, 3]
    for number, box in ((2, (20, 44, 5, 17)), (3, (22, 44, 5, 19))):
        x, y = np.argwhere(labels[:, :, number] == 1).T
        assert (x.min(), x.max(), y.min(), y.max()) == box
    x, y, z = np.argwhere(labels == 2).T
    assert (x.min(), x.max(), y.min(), y.max()) == (3, 10, 22, 35)
    assert set(z) == {8}
    assert set(np.unique(labels)) == {0, 1, 2}


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_simpleitk_puts_voxels_in_the_same_place(tmp_path, direction):
    sitk = pytest.importorskip("SimpleITK")
    volume = scan(direction)
    write_results(tmp_path, results(volume), ["nifti"])
    image = sitk.ReadImage(str(tmp_path / "findings.nii.gz"))
    for point in ((1, 2, 3), (59, 39, 8)):
        np.testing.assert_allclose(
            image.TransformIndexToPhysicalPoint(point), volume.to_lps(point)[0], atol=1e-3
        )


def test_the_better_finding_is_seen_and_boxes_are_cut_to_the_slice(tmp_path):
    good = Finding((Detection(4.0, (-3.0, 10.0, 20.0, 99.0), 0.9),), 1.0)
    poor = Finding((Detection(4.0, (15.0, 5.0, 30.0, 20.0), 0.5),), 1.0)
    outside = Finding((Detection(4.0, (-9.0, -9.0, -2.0, -2.0), 0.4),), 1.0)
    found = ScanResults(scan(), [good, poor, outside], [4.0])
    write_results(tmp_path, found, ["nifti"])
    labels, _ = labels_of(tmp_path)
    plane = labels[:, :, 4]
    assert (plane[:21, 10:] == 1).all()
    assert (plane[21:31, 5:21] == 2).all()
    assert (plane[15:21, 5:10] == 2).all()
    assert np.count_nonzero(labels) == 21 * 30 + 10 * 16 + 6 * 5


def test_slices_between_thin_places_are_filled(tmp_path):
    found = results(scan(slices=30, interval=0.5))  # places 4 slices apart: 12, 16 and 20, then 28
    write_results(tmp_path, found, ["nifti"])
    labels, _ = labels_of(tmp_path)
    first, last = found.findings[0].slices
    assert last - first == 8
    assert sorted(set(np.argwhere(labels == 1)[:, 2])) == list(range(first, last + 1))


def test_many_findings_need_more_than_a_byte(tmp_path):
    one = Detection(0.0, (0.0, 0.0, 0.0, 0.0), 0.5)
    findings = [
        Finding((replace(one, box=(i % 60, i // 60) * 2, score=1 - i / 999),), 1.0)
        for i in range(300)
    ]
    write_results(tmp_path, ScanResults(scan(), findings, [0.0]), ["nifti"])
    labels, _ = labels_of(tmp_path)
    assert labels.dtype == np.uint16
    assert labels[299 % 60, 299 // 60, 0] == 300


def test_the_same_findings_are_the_same_bytes(tmp_path):
    (tmp_path / "again").mkdir()
    for folder in (tmp_path, tmp_path / "again"):
        write_results(folder, results(scan()), ["nifti"])
    first, second = (folder / "findings.nii.gz" for folder in (tmp_path, tmp_path / "again"))
    assert first.read_bytes() == second.read_bytes()


def test_more_slices_than_nifti_counts():
    volume = scan(hu=np.zeros((32768, 1, 1), np.int16), interval=0.5)
    with pytest.raises(InputError, match="32768 slices, NIfTI has at most 32767"):
        check_formats(["nifti"], volume)
