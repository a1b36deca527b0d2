"""Structured reports, read back by highdicom and checked by dciodvfy."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from lesionkit.data import read_ct
from lesionkit.errors import InputError
from lesionkit.inference import long_axis_mm, write_results
from lesionkit.inference.formats import check_formats
from tests.data.dicom.writer import enhanced_ct, write_series

from .scans import DIRECTIONS, results, scan

highdicom = pytest.importorskip("highdicom")

PATIENT = {"PatientID": "7", "PatientName": "Test^Case", "PatientSex": "F", "StudyID": "1"}


def series(folder: Path, direction=DIRECTIONS["tilted"], slices=9, interval=2.5, **tags):
    """A DICOM scan of 40 rows and 60 columns on disk, as it is read."""
    hu = np.random.default_rng(0).integers(-900, 900, (slices, 40, 60)).astype(np.int16)
    tags = {"StudyInstanceUID": generate_uid(), "FrameOfReferenceUID": generate_uid(), **tags}
    geometry = {"spacing": (0.7, 0.7, interval), "direction": direction}
    write_series(folder, hu, **geometry, **{**PATIENT, **tags})
    return read_ct(folder)


def regions(report, volume) -> list[list[tuple[np.ndarray, float]]]:
    """For each finding the boxes (xyxy) and slices that its polygons are, in voxels.

    By way of the patient: from the polygon with the tags of the image that it names to LPS mm, and
    from there with the volume's own geometry.
    """
    headers = {}
    for file in set(volume.slice_files):
        header = pydicom.dcmread(file, stop_before_pixels=True)
        headers[header.SOPInstanceUID] = header
    found = []
    for group in report.content.get_volumetric_roi_measurement_groups():
        boxes = []
        for region in group.roi:
            (source,) = region.ContentSequence
            (reference,) = source.ReferencedSOPSequence
            header = headers[reference.ReferencedSOPInstanceUID]
            frame = reference.get("ReferencedFrameNumber")
            position, directions, spacing = plane(header, frame)
            # (0, 0) is the outer corner of the first pixel, whose centre the position is.
            columns, rows = region.value.T - 0.5
            lps = position + np.outer(columns * spacing[1], directions[:3])
            voxels = volume.from_lps(lps + np.outer(rows * spacing[0], directions[3:]))
            assert np.ptp(voxels[:, 2]) < 1e-3
            edges = np.concatenate([voxels[:, :2].min(0) + 0.5, voxels[:, :2].max(0) - 0.5])
            boxes.append((edges, voxels[0, 2]))
        found.append(boxes)
    return found


def plane(header, frame):
    """Position, orientation and pixel spacing (rows first) of an image or a frame of one."""
    if frame is None:
        tags = header, header, header
    else:
        shared = header.SharedFunctionalGroupsSequence[0]
        own = header.PerFrameFunctionalGroupsSequence[frame - 1].PlanePositionSequence[0]
        tags = own, shared.PlaneOrientationSequence[0], shared.PixelMeasuresSequence[0]
    return (
        np.array(tags[0].ImagePositionPatient, float),
        np.array(tags[1].ImageOrientationPatient, float),
        np.array(tags[2].PixelSpacing, float),
    )


def assert_same_boxes(report, found):
    read = regions(report, found.volume)
    assert len(read) == len(found.findings)
    for boxes, finding in zip(read, found.findings, strict=True):
        assert len(boxes) == len({one.slice for one in finding.detections})
        for box, number in boxes:
            one = finding.at(round(number))
            np.testing.assert_allclose(box, one.box, atol=0.01)
            assert abs(number - one.place) <= 0.5 + 1e-3


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_boxes_land_where_they_were_found(tmp_path, direction):
    found = results(series(tmp_path / "ct", direction))
    write_results(tmp_path, found, ["dicom-sr"])
    assert_same_boxes(highdicom.sr.srread(tmp_path / "findings_sr.dcm"), found)


@pytest.mark.parametrize("slices,interval", [(30, 0.5), (4, 10.0), (1, 5.0)])
def test_thin_thick_and_single_slices(tmp_path, slices, interval):
    found = results(series(tmp_path / "ct", slices=slices, interval=interval))
    write_results(tmp_path, found, ["dicom-sr"])
    assert_same_boxes(highdicom.sr.srread(tmp_path / "findings_sr.dcm"), found)


def test_frames_of_an_enhanced_ct(tmp_path):
    hu = np.zeros((9, 40, 60), np.int16)
    order = np.random.default_rng(1).permutation(9)
    dataset = enhanced_ct(hu, (0.7, 0.7, 2.5), direction=DIRECTIONS["tilted"], frame_order=order,
                          StudyInstanceUID=generate_uid())  # fmt: skip
    dataset.save_as(tmp_path / "ct.dcm", enforce_file_format=True)
    found = results(read_ct(tmp_path / "ct.dcm"))
    write_results(tmp_path, found, ["dicom-sr"])
    assert_same_boxes(highdicom.sr.srread(tmp_path / "findings_sr.dcm"), found)


def test_what_the_report_says(tmp_path):
    found = results(series(tmp_path / "ct"))
    write_results(tmp_path, found, ["dicom-sr"])
    report = highdicom.sr.srread(tmp_path / "findings_sr.dcm")
    source = pydicom.dcmread(found.volume.slice_files[0], stop_before_pixels=True)
    for keyword in ("StudyInstanceUID", *PATIENT):
        assert report[keyword].value == source[keyword].value
    assert report.SeriesInstanceUID != source.SeriesInstanceUID
    assert report.content[0].ContentTemplateSequence[0].TemplateIdentifier == "1500"
    groups = report.content.get_volumetric_roi_measurement_groups()
    for number, (group, finding) in enumerate(zip(groups, found.findings, strict=True), 1):
        assert group.tracking_identifier == f"finding {number}"
        assert group.finding_type.meaning == "Lesion"
        values = {m.name.meaning: (m.value, m.unit.value) for m in group.get_measurements()}
        length = long_axis_mm(finding.best.box, 0.7)
        assert values == {
            "Certainty of Finding": (pytest.approx(100 * finding.score), "%"),
            "Long axis": (pytest.approx(length, abs=0.01), "mm"),
        }
    named = {item[2] for item in report.get_evidence()}
    slices = {one.slice for finding in found.findings for one in finding.detections}
    files = [found.volume.slice_files[number] for number in slices]
    assert named == {pydicom.dcmread(file).SOPInstanceUID for file in files}


def test_nothing_found_is_said(tmp_path):
    found = replace(results(series(tmp_path / "ct")), findings=[])
    write_results(tmp_path, found, ["dicom-sr"])
    report = highdicom.sr.srread(tmp_path / "findings_sr.dcm")
    assert report.content.get_volumetric_roi_measurement_groups() == []
    (group,) = report.content.get_image_measurement_groups()
    (said,) = group.get_qualitative_evaluations()
    assert said.value.meaning == "All algorithms succeeded; without findings"


@pytest.mark.parametrize("nothing", [False, True])
@pytest.mark.parametrize("tags", [{}, dict.fromkeys(PATIENT)], ids=["named", "anonymous"])
def test_dciodvfy_reports_no_error(tmp_path, tags, nothing):
    if shutil.which("dciodvfy") is None:
        pytest.skip("no dciodvfy (Debian's package dicom3tools)")
    found = results(series(tmp_path / "ct", **tags))
    write_results(tmp_path, replace(found, findings=[]) if nothing else found, ["dicom-sr"])
    command = ["dciodvfy", "-new", tmp_path / "findings_sr.dcm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert "ComprehensiveSR" in said
    assert "Error" not in said, said
    assert done.returncode == 0


def test_scans_that_a_report_cannot_refer_to(tmp_path):
    with pytest.raises(InputError, match="scan: has no axial DICOM slices"):
        check_formats(["dicom-sr"], scan())
    (tmp_path / "1.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match="has no axial DICOM slices"):
        check_formats(["dicom-sr"], scan(slices=1, files=[tmp_path / "1.png"]))
    volume = series(tmp_path / "ct", StudyInstanceUID=None)
    with pytest.raises(InputError, match=r"\.dcm: the DICOM tag StudyInstanceUID is missing"):
        check_formats(["dicom-sr"], volume)
