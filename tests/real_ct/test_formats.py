"""The structured report and the label volume, by way of software that is not ours."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest

from .nodule import HELD_OUT, overlap, slice_at

pytestmark = pytest.mark.network


def test_report_and_labels_lie_on_the_nodule(scan, volume, truth, results):
    highdicom = pytest.importorskip("highdicom")
    nibabel = pytest.importorskip("nibabel")
    group = highdicom.sr.srread(results / "findings_sr.dcm")
    group = group.content.get_volumetric_roi_measurement_groups()[0]
    sources = {}
    for file in scan.iterdir():
        header = pydicom.dcmread(file)
        sources[header.SOPInstanceUID] = header
    seen = 0
    for region in group.roi:
        name = region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        key = slice_at(volume, float(sources[name].ImagePositionPatient[2]))
        if key not in truth:
            continue
        seen += 1
        box = np.concatenate([region.value.min(0), region.value.max(0) - 1])
        assert overlap(box, truth[key]) >= 0.4
        if key == slice_at(volume, HELD_OUT[0]):
            x1, y1, x2, y2 = box.round().astype(int)
            hu = sources[name].pixel_array.astype(float) - 1024
            assert hu[y1 : y2 + 1, x1 : x2 + 1].mean() > -350
            assert hu[x1 : x2 + 1, y1 : y2 + 1].mean() < -600
    assert seen >= len(truth) / 2
    labels = nibabel.load(results / "findings.nii.gz")
    x, y, z = np.argwhere(np.asarray(labels.dataobj) == 1).mean(0)
    key = slice_at(volume, HELD_OUT[0])
    ras = labels.affine @ [x, y, z, 1]
    x1, y1, x2, y2 = truth[key]
    centre = volume.to_lps([((x1 + x2) / 2, (y1 + y2) / 2, key)])[0]
    assert np.linalg.norm(ras[:3] * [-1, -1, 1] - centre) < 12  # the nodule is 26 x 31 mm


def test_dciodvfy_reports_no_error_on_real_headers(results):
    if shutil.which("dciodvfy") is None:
        pytest.skip("no dciodvfy (Debian's package dicom3tools)")
    command = ["dciodvfy", "-new", results / "findings_sr.dcm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "ComprehensiveSR" in done.stdout + done.stderr
    assert "Error" not in done.stdout + done.stderr
