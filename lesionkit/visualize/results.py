"""What earlier runs have found, and the slices that it was found on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lesionkit.data import CTVolume, DeepLesion, read_ct
from lesionkit.data.deeplesion import SPLITS, KeySlice
from lesionkit.data.deeplesion.slices import HU_OFFSET
from lesionkit.errors import InputError
from lesionkit.evaluation import read_detections, read_truth
from lesionkit.evaluation.froc import FrocResult, froc
from lesionkit.files import sha256

SCAN_FORMAT = "lesionkit-detections-2"
DETECTIONS, CONFIG, WEIGHTS = "detections.json", "config.json", "weights.safetensors"
SUMMARY = "summary.json"  # of lesionkit detect, where it searched several scans
FP_PER_IMAGE = 1.0  # at which boxes are drawn unless a threshold is given


@dataclass(frozen=True)
class Run:
    """A result folder of lesionkit: which verb wrote it, and what its config.json says."""

    folder: Path
    command: str
    config: Mapping[str, Any]

    def argument(self, name: str) -> Path | None:
        """A path among the run's arguments, as it was given to the run."""
        value = self.config["arguments"].get(name)
        return Path(value) if isinstance(value, str) else None


@dataclass(frozen=True, eq=False)
class ScanRun:
    """What ``lesionkit detect`` found in a scan.

    Attributes:
        volume: the scan.
        report: the content of detections.json.
    """

    volume: CTVolume
    report: Mapping[str, Any]

    def boxes(self, index: int) -> np.ndarray:
        """[n, 5] boxes and scores of slice ``index``, an index into ``volume.hu``."""
        found = [d for d in self.report["detections"] if d["slice"] == index]
        rows = [[*detection["box_px"], detection["score"]] for detection in found]
        return np.array(rows, dtype=np.float64).reshape(-1, 5)


@dataclass(frozen=True, eq=False)
class DatasetRun:
    """What was found on the images of a DeepLesion data set.

    Attributes:
        dataset: the images.
        detections: [n, 5] of each; None where nothing was searched.
        measured: their FROC; None without detections.
    """

    dataset: DeepLesion
    detections: list[np.ndarray] | None
    measured: FrocResult | None

    def hu(self, record: KeySlice) -> np.ndarray:
        """The key slice [H, W] int32 of a record."""
        raw = self.dataset.read_slice(record, record.key_slice)
        if raw is None:
            raise InputError(
                f"{self.dataset.images}: has no slice {record.key_slice} in {record.folder}; give "
                "the data set with its slices"
            )
        return raw.astype(np.int32) - HU_OFFSET

    def threshold(self, fp_per_image: float = FP_PER_IMAGE) -> float:
        """The least score at which there are no more false positives than this on an image."""
        kept = self.measured.curve_score[self.measured.curve_fp <= fp_per_image]
        return float(kept.min()) if len(kept) else 1.0


def read_run(folder: Path) -> Run:
    """Raises InputError unless it is a result folder of lesionkit."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a result folder of lesionkit")
    if (folder / SUMMARY).is_file():
        raise InputError(f"{folder}: holds the results of several scans; give the folder of one")
    config = _read_json(folder / CONFIG, "give a result folder of lesionkit, which has one")
    expected = {"lesionkit": str, "command": str, "arguments": dict}
    if not all(isinstance(config.get(key), kind) for key, kind in expected.items()):
        raise InputError(f"{folder}: its {CONFIG} is not lesionkit's; give a result folder of it")
    return Run(folder, config["command"], config)


def open_scan(run: Run, scan: Path | None = None) -> ScanRun:
    """The results of a ``lesionkit detect`` run, and its scan, from ``scan`` if it has moved.

    Raises InputError where one is missing or does not fit the other.
    """
    path = run.folder / DETECTIONS
    report = _read_json(path, "lesionkit detect writes it, in format json")
    if report.get("format") != SCAN_FORMAT:
        raise InputError(
            f"{path}: format {report.get('format')!r}, needs {SCAN_FORMAT!r}; run lesionkit detect "
            "again"
        )
    _check_report(path, report)
    source = scan or Path(report["scan"]["source"])
    if not source.exists():
        raise InputError(f"{source}: the scan of {run.folder} is not there; give it with --scan")
    volume = read_ct(source, run.config["arguments"].get("series"))
    shape = tuple(report["scan"][key] for key in ("slices", "rows", "columns"))
    if volume.hu.shape != shape:
        raise InputError(
            f"{source}: {_size(volume.hu.shape)}, but the boxes in {path} are of a scan of "
            f"{_size(shape)}; give that one with --scan"
        )
    return ScanRun(volume, report)


def open_dataset(run: Run, data: Path | None = None) -> DatasetRun:
    """The results of ``lesionkit eval`` or ``demo``, and the data set, ``data`` if it has moved.

    Raises InputError where one is missing or does not fit the other.
    """
    path = run.folder / DETECTIONS
    if not path.is_file():
        raise InputError(f"{path}: no such file; lesionkit eval writes the boxes of a data set")
    root = data or run.argument("data") or run.folder / "data"
    if not root.is_dir():
        raise InputError(f"{root}: the data set of {run.folder} is not there; give it with --data")
    split = run.config["arguments"].get("split") or "test"
    split_file = run.argument("split_file")
    detections = read_detections(path, read_truth(root / "DL_info.csv", split, split_file))
    of_split = split if split in SPLITS else None
    dataset = DeepLesion(root, split=of_split, split_file=split_file)
    return DatasetRun(dataset, detections, froc(detections, [r.boxes for r in dataset]))


def find_image(dataset: DeepLesion, name: str, option: str) -> int:
    """The place of an image; raises InputError naming the option that asked for it."""
    for place, record in enumerate(dataset):
        if record.file_name == name:
            return place
    known = f", whose images have names such as {dataset[0].file_name}" if len(dataset) else ""
    raise InputError(f"{option} {name}: not in {dataset.root}{known}")


def own_window(record: KeySlice) -> tuple[float, float] | None:
    """The DICOM window of a record's first lesion, low and high HU; None where it is not known."""
    low, high = record.lesions[0].window
    return (low, high) if low < high else None


def own_weights(run: Run, weights: Path | None = None) -> Path | None:
    """The weights that made a run's results, if they are at hand.

    Raises InputError for ``weights`` that are others.
    """
    path = weights or next(
        (p for p in (run.argument("weights"), run.folder / WEIGHTS) if p and p.is_file()), None
    )
    if path is None:
        return None
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the detector's .safetensors file")
    known = _known_sha256(run)
    if known in (None, sha256(path)):
        return path
    if weights is None:  # another training has put its own there
        return None
    raise InputError(f"{path}: not the weights that made the results in {run.folder}; give those")


def _check_report(path: Path, report: Mapping[str, Any]) -> None:
    """Raise InputError unless a scan's report has what is read of it."""
    try:
        detections, findings = report["detections"], report["findings"]
        texts = [report["model"][key] for key in ("weights", "sha256")]
        texts.append(report["scan"]["source"])
        sizes = [report["scan"][key] for key in ("slices", "rows", "columns")]
        places = [entry["slice"] for entry in detections]
        values = [report["score_threshold"]]
        for entry in (*detections, *findings):
            x1, y1, x2, y2 = entry["box_px"]
            values += [x1, y1, x2, y2, entry["score"]]
        for entry in findings:
            first, last = entry["slices"]
            places += [first, last]
            x, y, z = entry["centre_lps_mm"]
            width, height, depth = entry["size_mm"]
            values += [x, y, z, width, height, depth, entry["long_axis_mm"]]
        if not (
            all(isinstance(text, str) for text in texts)
            and all(isinstance(number, int) for number in (*sizes, *places))
            and np.isfinite(np.array(values, dtype=np.float64)).all()
            and all(0 <= place < sizes[0] for place in places)
            and {entry["best"] for entry in findings} <= {entry["id"] for entry in detections}
        ):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{path}: damaged, a box or a size is not what it should be; run lesionkit detect again"
        ) from None


def _known_sha256(run: Run) -> str | None:
    if run.command == "detect":
        return _read_json(run.folder / DETECTIONS, "run lesionkit detect again")["model"]["sha256"]
    return run.config.get("weights_sha256")


def _read_json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); {remedy}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not lesionkit's; {remedy}")
    return content


def _size(shape: tuple[int, ...]) -> str:
    slices, rows, columns = shape
    return f"{slices} slices of {columns} x {rows} pixels"
