"""Small DICOM CT series written by the tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

AXIAL = np.eye(3)


def write_series(
    folder: Path,
    hu: np.ndarray,
    spacing: Sequence[float] = (0.7, 0.7, 2.5),
    origin: Sequence[float] = (-20.0, -30.0, 100.0),
    direction: np.ndarray = AXIAL,
    *,
    slope: float = 1,
    intercept: float = -1024,
    order: Sequence[int] | None = None,
    uid: str | None = None,
    **tags: object,
) -> list[Path]:
    """Write hu [S, H, W] as one CT Image per slice, stored as uint16; returns their paths.

    spacing is (x, y, slice) mm, direction's columns are the LPS directions of x, y and slice, as
    in CTVolume. Slice i is named after order[i] (default: shuffled, so that names mislead).
    tags replace any tag of every slice; None deletes it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uid = uid or generate_uid()
    if order is None:
        order = np.random.default_rng(0).permutation(len(hu))
    paths = []
    for index, plane in enumerate(hu):
        step = np.asarray(direction)[:, 2] * spacing[2] * index
        dataset = ct_slice(
            plane,
            spacing=spacing,
            position=np.asarray(origin) + step,
            direction=direction,
            slope=slope,
            intercept=intercept,
            SeriesInstanceUID=uid,
            InstanceNumber=int(order[index]),
            **tags,
        )
        paths.append(folder / f"{int(order[index]):03d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def ct_slice(
    hu: np.ndarray,
    *,
    spacing: Sequence[float] = (0.7, 0.7, 2.5),
    position: Sequence[float] = (0.0, 0.0, 0.0),
    direction: np.ndarray = AXIAL,
    slope: float = 1,
    intercept: float = -1024,
    **tags: object,
) -> FileDataset:
    """A CT Image of one slice [H, W]; tags replace its own, None deletes."""
    dataset = _image(hu, slope, intercept, CTImageStorage)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PixelSpacing = [float(spacing[1]), float(spacing[0])]
    dataset.SliceThickness = float(spacing[2])
    dataset.ImagePositionPatient = [round(float(v), 6) for v in position]
    dataset.ImageOrientationPatient = _orientation(direction)
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    return _with_tags(dataset, tags)


def enhanced_ct(
    hu: np.ndarray,
    spacing: Sequence[float] = (0.7, 0.7, 2.5),
    origin: Sequence[float] = (-20.0, -30.0, 100.0),
    direction: np.ndarray = AXIAL,
    *,
    frame_order: Sequence[int] | None = None,
    **tags: object,
) -> FileDataset:
    """An Enhanced CT with one frame per slice of hu [S, H, W], in the given order of slices."""
    frame_order = range(len(hu)) if frame_order is None else frame_order
    dataset = _image(hu[list(frame_order)], 1, -1024, EnhancedCTImageStorage)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.NumberOfFrames = len(hu)

    shared = Dataset()
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = [float(spacing[1]), float(spacing[0])]
    shared.PixelMeasuresSequence[0].SliceThickness = float(spacing[2])
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = _orientation(direction)
    shared.PixelValueTransformationSequence = [Dataset()]
    shared.PixelValueTransformationSequence[0].RescaleSlope = 1
    shared.PixelValueTransformationSequence[0].RescaleIntercept = -1024
    dataset.SharedFunctionalGroupsSequence = [shared]

    frames = []
    for index in frame_order:
        frame = Dataset()
        frame.PlanePositionSequence = [Dataset()]
        step = np.asarray(direction)[:, 2] * spacing[2] * index
        position = (np.asarray(origin) + step).round(6).tolist()
        frame.PlanePositionSequence[0].ImagePositionPatient = position
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    return _with_tags(dataset, tags)


def _image(hu: np.ndarray, slope: float, intercept: float, sop_class: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Modality = "CT"
    dataset.SeriesInstanceUID = generate_uid()
    dataset.SeriesNumber = 1
    dataset.SeriesDescription = "written by a test"
    dataset.Rows, dataset.Columns = hu.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    stored = np.round((hu.astype(np.float64) - intercept) / slope)
    if stored.min() < 0 or stored.max() > 65535:
        raise ValueError("these Hounsfield units do not fit into uint16 with this intercept")
    dataset.PixelData = stored.astype("<u2").tobytes()
    return dataset


def _orientation(direction: np.ndarray) -> list[float]:
    return [round(float(v), 8) for v in np.asarray(direction)[:, :2].T.ravel()]


def _with_tags(dataset: FileDataset, tags: dict[str, object]) -> FileDataset:
    for keyword, value in tags.items():
        if value is not None:
            setattr(dataset, keyword, value)
        elif keyword in dataset:
            delattr(dataset, keyword)
    return dataset
