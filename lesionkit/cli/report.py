"""``lesionkit report``: a run or a scan as one page."""

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
from lesionkit.cli.view import Window, parse_window_option, plain

WRITES = ("report.html",)


def report(
    results: Annotated[
        Path,
        typer.Argument(metavar="RESULTS", help="A result folder of detect, eval, demo or train."),
    ],
    out: Out,
    data: Annotated[
        Path | None, typer.Option("--data", help="The data set, where it has moved.")
    ] = None,
    scan: Annotated[
        Path | None, typer.Option("--scan", help="The scan, where it has moved.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="The detector's weights, where they have moved."),
    ] = None,
    window: Window = None,
    slices: Annotated[
        int, typer.Option("--slices", min=1, max=5000, help="Most slices in the page.")
    ] = 200,
    slice_size: Annotated[
        int,
        typer.Option("--slice-size", min=32, max=2048, help="Pixels a side that slices shrink to."),
    ] = 384,
    score_threshold: Annotated[
        float | None,
        typer.Option(
            "--score-threshold",
            help="Least score of a box. [default: 1 false positive an image; of a scan, all]",
        ),
    ] = None,
    attention: Annotated[
        int, typer.Option("--attention", min=0, max=50, help="Lesions to show attention for.")
    ] = 2,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Make one HTML page of a run or a scan, which works offline: report.html.

    It has the findings, the slices with their boxes and a switch of windows, FROC, and panels of
    attention where the weights are at hand.
    """
    from lesionkit.cli.output import check_output, result_folder
    from lesionkit.cli.progress import progress
    from lesionkit.visualize.report import ReportOptions, make_report
    from lesionkit.visualize.results import read_run

    check_output(out, overwrite, "report", WRITES)
    shown = parse_window_option(window)
    run = read_run(results)
    if scan:
        check_outside(out, scan)
    limit_threads(run.config.get("detector", {}).get("backbone", ""))
    options = ReportOptions(
        data=data,
        scan=scan,
        weights=weights,
        window=shown,
        slices=slices,
        side=slice_size,
        score_threshold=score_threshold,
        attention=attention,
        device=choose_device(device),
    )
    arguments = plain(
        results=results, data=data, scan=scan, weights=weights, window=window, slices=slices,
        slice_size=slice_size, score_threshold=score_threshold, attention=attention, device=device,
    )  # fmt: skip
    config = {"command": "report", "arguments": arguments}
    with result_folder(out, overwrite, config, WRITES) as folder:
        with progress("making the page") as update:
            page = make_report(run, options, update)
        (folder / "report.html").write_text(page, encoding="utf-8", errors="backslashreplace")
    size = (out / "report.html").stat().st_size / 2**20
    print(f"{out / 'report.html'}: {size:.1f} MiB")
