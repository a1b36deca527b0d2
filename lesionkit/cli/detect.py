"""``lesionkit detect``: the lesions in one scan."""

from pathlib import Path
from typing import Annotated

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
from lesionkit.inference.results import MAX_FINDINGS, SCORE_THRESHOLD, Finding

WRITES = ("detections.csv", "detections.json", "overlay.png")
PICTURES = 6


def detect(
    scan: Annotated[
        Path, typer.Argument(help="A DICOM or DeepLesion folder, or a NIfTI, NRRD or MHA file.")
    ],
    weights: Annotated[
        Path, typer.Option("--weights", help="A detector's .safetensors file.", show_default=False)
    ],
    out: Out,
    series: Annotated[
        str | None, typer.Option("--series", help="Which series of a folder with several.")
    ] = None,
    slices: Annotated[
        str | None,
        typer.Option("--slices", help="Search only slices A to B-1, as A:B, or A:B:STEP."),
    ] = None,
    score_threshold: Annotated[
        float, typer.Option("--score-threshold", help="Least score of a finding, 0 to 1.")
    ] = SCORE_THRESHOLD,
    max_findings: Annotated[
        int, typer.Option("--max-findings", help="Most findings to report.")
    ] = MAX_FINDINGS,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Find lesions in a CT scan.

    Writes detections.json and detections.csv (boxes in pixels and in patient millimetres, LPS)
    and overlay.png with the best finding on each of the best slices.
    """
    from lesionkit.cli.output import check_output, result_folder
    from lesionkit.cli.progress import progress
    from lesionkit.data import read_ct
    from lesionkit.files import sha256
    from lesionkit.inference import collect_findings, detect_volume, write_findings
    from lesionkit.models import load_detector

    check_outside(out, scan)
    check_output(out, overwrite, "detect", WRITES)
    if not 0 <= score_threshold <= 1:
        raise InputError(f"--score-threshold must be in 0..1, got {score_threshold}")
    if max_findings < 1:
        raise InputError(f"--max-findings must be at least 1, got {max_findings}")
    chosen = parse_slices(slices)
    model = load_detector(weights, choose_device(device))
    limit_threads(model.config.backbone)
    with progress(f"reading {scan}"):
        volume = read_ct(scan, series)
    keys = range(len(volume.hu))[chosen]
    if not keys:
        raise InputError(f"--slices {slices}: chooses none of slices 0..{len(volume.hu) - 1}")
    arguments = {
        "scan": str(scan),
        "weights": str(weights),
        "series": series,
        "slices": slices,
        "score_threshold": score_threshold,
        "max_findings": max_findings,
        "device": device,
    }
    config = {"command": "detect", "arguments": arguments, "detector": model.config.to_dict()}
    with result_folder(out, overwrite, config, WRITES) as folder:
        with progress("searching slices") as update:
            found = detect_volume(model, volume, keys, progress=update)
        findings = collect_findings(found, score_threshold, max_findings)
        about = {
            "model": {"weights": weights.name, "sha256": sha256(weights)},
            "slices_searched": [keys.start, keys.stop, keys.step],
            "score_threshold": score_threshold,
            "max_findings": max_findings,
        }
        write_findings(folder, volume, findings, about)
        _draw(folder / "overlay.png", volume, findings)
    where = f"; the best on slice {findings[0].slice}" if findings else ""
    print(f"{len(findings)} findings on {len(keys)} slices{where}: {out / 'detections.json'}")


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


def _draw(path: Path, volume, findings: list[Finding]) -> None:
    """The best finding on each of the best slices; an empty one if there is no finding."""
    from lesionkit.visualize import draw_boxes, save_grid

    best: dict[int, Finding] = {}
    for finding in findings:
        best.setdefault(finding.slice, finding)
    pictures = [
        draw_boxes(
            volume.hu[finding.slice],
            detections=[[*finding.box, finding.score]],
            title=f"slice {finding.slice}",
            scale=512 / max(volume.hu.shape[1:]),
        )
        for finding in list(best.values())[:PICTURES]
    ]
    if not pictures:
        middle = len(volume.hu) // 2
        pictures = [draw_boxes(volume.hu[middle], title=f"slice {middle}: no finding in the scan")]
    save_grid(path, pictures)
