"""``lesionkit data``: a DeepLesion folder looked at, and other data turned into one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionkit.cli.options import Out, Overwrite, Seed, folder
from lesionkit.data.deeplesion.jpeg import PIXEL_SPACING
from lesionkit.errors import InputError

if TYPE_CHECKING:
    from lesionkit.data.deeplesion.check import Report

REPORT, PROGRESS = "report.json", "progress.json"
CONVERTED = ("DL_info.csv", "Images_png/*/*.png")
SHOWN = 20  # problems on the screen

app = typer.Typer(
    name="data",
    help="Check a DeepLesion folder, or make one of other data.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="A DeepLesion folder (with DL_info.csv).")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder for report.json; a check of it can go on.", parser=folder
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="train, val or test. [default: all]")
    ] = None,
    split_file: Annotated[
        Path | None,
        typer.Option("--split-file", help="CSV with patient or file_name, and split."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only whether files are there; read none.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=0, help="Processes. [default: one a core]")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Look for missing, damaged and inconsistent slices and rows.

    Exit code 0 if there are no errors (there may be warnings), 1 if there are. With --out, the same
    command goes on where an interrupted one was: series that were clean are not read again.
    """
    from contextlib import ExitStack

    from lesionkit.cli.output import check_output, left_behind, result_folder
    from lesionkit.cli.progress import progress
    from lesionkit.data.deeplesion.check import check_deeplesion

    arguments = {"data": str(data), "split": split, "quick": quick}
    arguments["split_file"] = str(split_file) if split_file else None
    names = (REPORT, PROGRESS)
    config = {"command": "data check", "arguments": arguments}
    with ExitStack() as stack:
        state, earlier = None, []
        if out is not None:
            check_output(out, overwrite, "data check", names)
            earlier = left_behind(out, "data check", PROGRESS)
            results = stack.enter_context(
                result_folder(out, overwrite, config, names, keep_unfinished=True, continues=True)
            )
            state = results / PROGRESS
        update = stack.enter_context(progress(f"checking {data}"))
        report = check_deeplesion(
            data,
            split=split,
            split_file=split_file,
            quick=quick,
            workers=workers,
            state=state,
            earlier=earlier,
            progress=update,
        )
        if state is not None:
            state.unlink()
            write_report(report, state.with_name(REPORT))
    print_report(report, out)
    raise typer.Exit(1 if report.errors else 0)


def write_report(report: "Report", path: Path) -> None:
    import json

    from lesionkit.files import atomic_write

    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")


def print_report(report: "Report", out: Path | None) -> None:
    """The report as a table of the splits and the first problems."""
    print(f"{'':8}{'patients':>9}{'images':>9}{'not noisy':>11}{'boxes':>9}{'not noisy':>11}")
    for name, counts in report.splits.items():
        images = f"{counts['images']:>9}{counts['images_without_noisy']:>11}"
        boxes = f"{counts['boxes']:>9}{counts['boxes_without_noisy']:>11}"
        print(f"{name:8}{counts['patients']:>9}{images}{boxes}")
    print(f"{report.slices} slices of {report.series} series read from {report.images}")
    ordered = sorted(report.problems, key=lambda problem: problem.severity)
    for problem in ordered[:SHOWN]:
        print(f"{problem.severity}: {problem.kind}: {problem.where}: {problem.message}")
    if len(ordered) > SHOWN:
        where = out / REPORT if out else "the report that --out keeps"
        print(f"... and {len(ordered) - SHOWN} more, all in {where}")
    errors = len(report.errors)
    print(f"{errors} errors, {len(ordered) - errors} warnings")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A folder of NAME_NNN.jpg with NAME_NNN.tru.")],
    out: Out,
    pixel_spacing: Annotated[
        float,
        typer.Option("--pixel-spacing", help="Millimetres a pixel, which JPEG files do not say."),
    ] = PIXEL_SPACING,
    train: Annotated[
        int | None, typer.Option("--train", min=0, help="Images for training; the rest is test.")
    ] = None,
    test: Annotated[
        int | None, typer.Option("--test", min=0, help="Images for test; the rest is training.")
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Turn JPEG key slices with boxes into a DeepLesion folder (16-bit PNG, DL_info.csv).

    The JPEG files hold -1024..3071 HU in 8 bits, so HU come in steps of 16. Images for test are
    drawn with --seed, as whole patients if their numbers of images add up to what is asked for. By
    default all are for training.
    """
    from lesionkit.cli.output import result_folder
    from lesionkit.cli.progress import progress
    from lesionkit.data.deeplesion.jpeg import convert_jpeg

    if train is not None and test is not None:
        raise InputError("give --train or --test, the other is the rest")
    arguments = {"source": str(source), "pixel_spacing": pixel_spacing}
    arguments |= {"train": train, "test": test, "seed": seed}
    config = {"command": "data convert", "arguments": arguments}
    with (
        result_folder(out, overwrite, config, CONVERTED) as results,
        progress(f"converting {source}") as update,
    ):
        counts = convert_jpeg(
            source,
            results,
            pixel_spacing=pixel_spacing,
            train=train,
            test=test,
            seed=seed,
            progress=update,
        )
    text = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"{text} images: {out}")
