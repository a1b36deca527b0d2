"""DICOM structured report: TID 1500 with a volumetric region of interest for each finding."""

import os
import uuid
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lesionkit.data.dicom.files import is_dicom
from lesionkit.data.volume import CTVolume
from lesionkit.errors import InputError
from lesionkit.files import atomic_write
from lesionkit.inference.findings import Finding, long_axis_mm
from lesionkit.inference.results import ScanResults, edges
from lesionkit.version import __version__

if TYPE_CHECKING:
    from highdicom.sr import ComprehensiveSR, ImageRegion
    from pydicom import Dataset

SERIES_NUMBER = 9100
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
# DICOM wants these in every report, if only empty.
_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime"),
)


def check(volume: CTVolume) -> None:
    """Raise InputError unless the slices are DICOM images that a report can refer to."""
    if not volume.slice_files or not is_dicom(Path(volume.slice_files[0])):
        raise InputError(
            f"{volume.source}: has no axial DICOM slices, which --format dicom-sr refers to; give "
            "the DICOM series, or choose another format"
        )
    _Images(volume).of(0)


def write(folder: str | os.PathLike, results: ScanResults) -> None:
    """Write ``findings_sr.dcm``, a Comprehensive SR in the study of the source images.

    Each finding is a group of TID 1411: closed polygons around its boxes, one on each slice that is
    nearest to one of its places, with "Certainty of Finding" (the score, in percent) and "Long
    axis" (mm, estimated). A polygon runs along the outer edges of the box's pixels, in DICOM's
    coordinates: (0, 0) is the outer corner of the first pixel. Without findings there is one group
    of TID 1501 that says so, of the first slice.

    Raises InputError if the source images lack what identifies them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of harmless deviations, file by file
        report = _report(results)
        with atomic_write(Path(folder, "findings_sr.dcm")) as path:
            report.save_as(path, enforce_file_format=True)


def _report(results: ScanResults) -> "ComprehensiveSR":
    from highdicom.sr import (
        ComprehensiveSR,
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
    )
    from highdicom.uid import UID
    from pydicom.sr.codedict import codes

    images = _Images(results.volume)
    groups = [_group(number, one, images) for number, one in enumerate(results.findings, 1)]
    groups = groups or [_nothing(images)]
    # One device for all reports of a version, whatever the machine.
    device = UID.from_uuid(str(uuid.uuid5(uuid.NAMESPACE_DNS, f"lesionkit {__version__}")))
    observer = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=device, name="lesionkit", model_name=f"lesionkit {__version__}"
        ),
    )
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups,
    )
    made = ComprehensiveSR(
        evidence=images.used,
        content=report[0],
        series_instance_uid=UID(),
        series_number=SERIES_NUMBER,
        series_description="lesionkit findings",
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="lesionkit",
        manufacturer_model_name="lesionkit",
        software_versions=__version__,
        is_complete=False,
        is_verified=False,
    )
    return made


def _group(number: int, finding: Finding, images: "_Images"):
    from highdicom.sr import (
        Measurement,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )
    from pydicom.sr.codedict import codes

    slices = sorted({one.slice for one in finding.detections})
    length = long_axis_mm(finding.best.box, images.volume.spacing[0])
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(identifier=f"finding {number}"),
        referenced_regions=[_region(finding, one, images) for one in slices],
        finding_type=codes.SCT.Lesion,
        algorithm_id=_algorithm(),
        measurements=[
            Measurement(
                name=codes.DCM.CertaintyOfFinding,
                value=round(100 * finding.score, 4),
                unit=codes.UCUM.Percent,
            ),
            Measurement(
                name=codes.SCT.LongAxis,
                value=round(length, 2),
                unit=codes.UCUM.Millimeter,
                derivation=codes.SCT.Estimated,
            ),
        ],
    )


def _region(finding: Finding, number: int, images: "_Images") -> "ImageRegion":
    from highdicom.sr import GraphicTypeValues, ImageRegion, SourceImageForRegion

    header, frames = images.of(number)
    _, rows, columns = images.volume.hu.shape
    x1, y1, x2, y2 = np.array(edges(finding.at(number).box)) + 0.5
    x1, x2 = np.clip((x1, x2), 0, columns)
    y1, y2 = np.clip((y1, y2), 0, rows)
    return ImageRegion(
        graphic_type=GraphicTypeValues.POLYLINE,
        graphic_data=np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]),
        source_image=SourceImageForRegion.from_source_image(header, frames),
    )


def _nothing(images: "_Images"):
    """The group that says that nothing was found."""
    from highdicom.sr import (
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes

    header, frames = images.of(0)
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(identifier="no findings"),
        algorithm_id=_algorithm(),
        source_images=[SourceImageForMeasurementGroup.from_source_image(header, frames)],
        qualitative_evaluations=[
            QualitativeEvaluation(
                name=codes.DCM.CADProcessingAndFindingsSummary,
                value=codes.DCM.AllAlgorithmsSucceededWithoutFindings,
            )
        ],
    )


def _algorithm():
    from highdicom.sr import AlgorithmIdentification

    return AlgorithmIdentification(name="lesionkit", version=__version__)


class _Images:
    """The headers of the slices that the report refers to, read when asked for."""

    def __init__(self, volume: CTVolume) -> None:
        self.volume = volume
        self._headers: dict[str, Dataset] = {}

    @property
    def used(self) -> list["Dataset"]:
        return list(self._headers.values())

    def of(self, number: int) -> tuple["Dataset", list[int] | None]:
        """The header of a slice's file and, if the file has several, the frame that it is."""
        import pydicom

        file = self.volume.slice_files[number]
        if file not in self._headers:
            header = pydicom.dcmread(file, stop_before_pixels=True, force=True)
            for keyword in _NEEDED:
                if not header.get(keyword):
                    raise InputError(
                        f"{file}: the DICOM tag {keyword} is missing, so --format dicom-sr cannot "
                        "refer to it; choose another format"
                    )
            for keyword in _EMPTY:
                if keyword not in header:
                    setattr(header, keyword, "")
            self._headers[file] = header
        header = self._headers[file]
        return header, self._frame(header, number) if "NumberOfFrames" in header else None

    def _frame(self, header: "Dataset", number: int) -> list[int]:
        """Frames count from 1; they are told by their positions, in whatever order they come."""
        frames = header.PerFrameFunctionalGroupsSequence
        positions = [frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames]
        distances = np.linalg.norm(
            np.array(positions, float) - self.volume.to_lps([(0, 0, number)]), axis=1
        )
        return [int(distances.argmin()) + 1]
