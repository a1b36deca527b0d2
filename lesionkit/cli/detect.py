"""``lesionkit detect``: the lesions in one scan, or in many."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lesionkit.cli.options import (
    Device,
    Out,
    Overwrite,
    check_outside,
    choose_device,
    limit_threads,
)
from lesionkit.errors import InputError
from lesionkit.inference.findings import MAX_FINDINGS, SCORE_THRESHOLD
from lesionkit.inference.formats import DEFAULT, FORMATS

if TYPE_CHECKING:
    from lesionkit.data import CTVolume
    from lesionkit.inference import Finding
    from lesionkit.models import LesionDetector

PICTURES = 6


@dataclass(frozen=True, eq=False)
class Search:
    """What a run searches scans with: the same for all of them."""

    model: "LesionDetector"
    weights: Path
    sha256: str
    slices: str | None
    score_threshold: float
    max_findings: int
    formats: tuple[str, ...]
    device: str

    @property
    def writes(self) -> tuple[str, ...]:
        """The files of one scan."""
        return ("overlay.png", *(file for name in self.formats for file in FORMATS[name]))

    def config(self, scan: Path, series: str | None) -> dict[str, Any]:
        """What config.json says of the search of a scan."""
        arguments = {
            "scan": str(scan),
            "weights": str(self.weights),
            "series": series,
            "slices": self.slices,
            "score_threshold": self.score_threshold,
            "max_findings": self.max_findings,
            "formats": list(self.formats),
            "device": self.device,
        }
        return {
            "command": "detect",
            "arguments": arguments,
            "weights_sha256": self.sha256,
            "detector": self.model.config.to_dict(),
        }


def detect(
    weights: Annotated[
        Path, typer.Option("--weights", help="A detector's .safetensors file.", show_default=False)
    ],
    out: Out,
    scans: Annotated[
        list[Path] | None,
        typer.Argument(
            help="A DICOM or DeepLesion folder, or a NIfTI, NRRD or MHA file; or several.",
            show_default=False,
        ),
    ] = None,
    worklist: Annotated[
        Path | None,
        typer.Option(
            "--worklist", help="File with a scan a line, or CSV with the columns path and series."
        ),
    ] = None,
    format_names: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help=f"What to write, of {', '.join(FORMATS)}; several with commas. "
            f"[default: {','.join(DEFAULT)}]",
            show_default=False,
        ),
    ] = None,
    series: Annotated[
        str | None, typer.Option("--series", help="Which series of a folder with several.")
    ] = None,
    slices: Annotated[
        str | None,
        typer.Option("--slices", help="Search only slices A to B-1, as A:B, or A:B:STEP."),
    ] = None,
    score_threshold: Annotated[
        float, typer.Option("--score-threshold", help="Least score of a box, 0 to 1.")
    ] = SCORE_THRESHOLD,
    max_findings: Annotated[
        int, typer.Option("--max-findings", help="Most findings to report.")
    ] = MAX_FINDINGS,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Find lesions in CT scans.

    For one scan --out gets detections.json, detections.csv and findings.csv (boxes, and the
    findings that they make together, in pixels and in patient millimetres, LPS), what else
    --format names, and overlay.png with the best findings. For several scans each has such a
    folder in --out, and summary.json and summary.csv tell what became of them; the same command
    again goes on with those that are not done. Exit code 1: some could not be searched.
    """
    from lesionkit.cli.output import check_output

    formats = parse_formats(format_names)
    one = scans[0] if scans and len(scans) == 1 and worklist is None else None
    if scans and worklist:
        raise InputError(f"--worklist {worklist}: give scans or a worklist, not both")
    if not scans and not worklist:
        raise InputError("no scan; name one or more, or give --worklist")
    if one is None and series is not None:
        raise InputError(
            f"--series {series}: is for one scan; give --worklist a CSV file with the columns path "
            "and series"
        )
    if not 0 <= score_threshold <= 1:
        raise InputError(f"--score-threshold must be in 0..1, got {score_threshold}")
    if max_findings < 1:
        raise InputError(f"--max-findings must be at least 1, got {max_findings}")
    parse_slices(slices)
    if "dicom-sr" in formats and find_spec("highdicom") is None:
        raise InputError(
            "--format dicom-sr: needs the package highdicom, which is not installed; "
            'pip install "lesionkit[dicom-sr]"'
        )
    if one is not None:
        check_outside(out, one)
        files = ("overlay.png", *(file for name in formats for file in FORMATS[name]))
        check_output(out, overwrite, "detect", files)

    def load() -> Search:
        from lesionkit.files import sha256
        from lesionkit.models import load_detector

        model = load_detector(weights, choose_device(device))
        limit_threads(model.config.backbone)
        return Search(
            *(model, weights, sha256(weights), slices),
            *(score_threshold, max_findings, formats, device),
        )

    if one is not None:
        search = load()
        findings, count = search_scan(search, one, series, out, overwrite)
        where = f"; the best on slice {findings[0].best.slice}" if findings else ""
        print(f"{len(findings)} findings on {count} slices{where}: {out / search.writes[1]}")
        return

    from lesionkit.cli.worklist import read_worklist, search_all

    listed = read_worklist(worklist) if worklist else [(scan, None) for scan in scans]
    if search_all(load, listed, out, overwrite):
        raise typer.Exit(1)


def search_scan(
    search: Search,
    scan: Path,
    series: str | None,
    out: Path,
    overwrite: bool,
    continues: bool = False,
) -> tuple[list["Finding"], int]:
    """Search a scan and write what is found into the result folder ``out``.

    Returns the findings, and the number of slices that were asked for. ``overwrite`` and
    ``continues`` are those of ``result_folder``.
    """
    from lesionkit.cli.output import result_folder
    from lesionkit.cli.progress import progress
    from lesionkit.data import read_ct
    from lesionkit.data.slice_grid import SliceGrid
    from lesionkit.inference import (
        ScanResults,
        collect_detections,
        detect_volume,
        merge_detections,
        write_results,
    )
    from lesionkit.inference.formats import check_formats

    with progress(f"reading {scan}"):
        volume = read_ct(scan, series)
    check_formats(search.formats, volume)
    keys = range(len(volume.hu))[parse_slices(search.slices)]
    if not keys:
        raise InputError(
            f"--slices {search.slices}: chooses none of slices 0..{len(volume.hu) - 1}"
        )
    config = search.config(scan, series)
    with result_folder(out, overwrite, config, search.writes, continues=continues) as folder:
        with progress("searching slices") as update:
            found = detect_volume(search.model, volume, keys, progress=update)
        detections = collect_detections(found, search.score_threshold)
        step = SliceGrid(volume, search.model.config.preprocessing).step
        findings = merge_detections(detections, step, search.max_findings)
        about = {
            "model": {"weights": search.weights.name, "sha256": search.sha256},
            "slices_searched": [keys.start, keys.stop, keys.step],
            "score_threshold": search.score_threshold,
            "max_findings": search.max_findings,
        }
        results = ScanResults(volume, findings, list(found), about)
        with progress("writing results"):
            write_results(folder, results, search.formats)
            _draw(folder / "overlay.png", volume, findings)
    return findings, len(keys)


def parse_formats(texts: Sequence[str] | None) -> tuple[str, ...]:
    """The formats that options name, each once and in the order of ``FORMATS``."""
    names = [name.strip() for text in texts or [",".join(DEFAULT)] for name in text.split(",")]
    for name in names:
        if name not in FORMATS:
            raise InputError(f"--format {name}: must be of {', '.join(FORMATS)}")
    return tuple(name for name in FORMATS if name in names)


def parse_slices(text: str | None) -> slice:
    """ "A:B" or "A:B:STEP" as Python has it; all for None."""
    if text is None:
        return slice(None)
    try:
        start, stop, *step = (int(part) if part else None for part in text.split(":"))
        chosen = slice(start, stop, *step)
    except (TypeError, ValueError):
        chosen = None
    if chosen is None or (chosen.step is not None and chosen.step < 1):
        raise InputError(f"--slices {text}: must be A:B or A:B:STEP, whole numbers and STEP > 0")
    return chosen


def _draw(path: Path, volume: "CTVolume", findings: Sequence["Finding"]) -> None:
    """The best finding on each of the best slices; an empty one if there is no finding."""
    from lesionkit.visualize import draw_boxes, save_grid

    best = {}
    for finding in findings:
        best.setdefault(finding.best.slice, finding.best)
    pictures = [
        draw_boxes(
            volume.hu[one.slice],
            detections=[[*one.box, one.score]],
            title=f"slice {one.slice}",
            scale=512 / max(volume.hu.shape[1:]),
        )
        for one in list(best.values())[:PICTURES]
    ]
    if not pictures:
        middle = len(volume.hu) // 2
        pictures = [draw_boxes(volume.hu[middle], title=f"slice {middle}: no finding in the scan")]
    save_grid(path, pictures)
