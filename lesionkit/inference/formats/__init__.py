"""The formats in which findings are written, a module each.

A module has ``write(folder, results)``, and ``check(volume)`` where it cannot take every scan.
"""

import os
from collections.abc import Iterable
from importlib import import_module

from lesionkit.data.volume import CTVolume
from lesionkit.inference.results import ScanResults

# The files of each format.
FORMATS = {
    "json": ("detections.json",),
    "csv": ("detections.csv", "findings.csv"),
    "coco": ("coco_images.json", "coco_results.json"),
    "dicom-sr": ("findings_sr.dcm",),
    "nifti": ("findings.nii.gz",),
    "slicer": ("findings.mrk.json",),
}
DEFAULT = ("json", "csv")


def check_formats(formats: Iterable[str], volume: CTVolume) -> None:
    """Raise InputError if findings in a scan cannot be written in one of the formats."""
    for name in formats:
        if check := getattr(_module(name), "check", None):
            check(volume)


def write_results(folder: str | os.PathLike, results: ScanResults, formats: Iterable[str]) -> None:
    """Write findings into a folder; files of the formats' names are replaced.

    Raises:
        ValueError: a format that is none of ``FORMATS``.
        InputError: the scan has not what a format needs.
        ModuleNotFoundError: dicom-sr without highdicom.
    """
    for name in formats:
        _module(name).write(folder, results)


def _module(name: str):
    if name not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {name!r}")
    module = {"json": "report", "csv": "tables"}.get(name, name.replace("-", "_"))
    return import_module(f"{__name__}.{module}")
