"""``lesionkit tables``: the tables of Tao et al. 2019, ours beside the paper's."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lesionkit.cli.options import Device, ImageSize, Out, Overwrite, Patients, choose_device
from lesionkit.errors import InputError

SYNTHETIC = "synthetic"
DATA_SEED = 1
HELD_OUT = (0.0, 0.45)  # one patient for validation, since nothing is chosen by it; for test
SYNTHETIC_NOTE = (
    "Ours on synthetic CT with a small network, which says nothing about accuracy on patients; the "
    "paper's on DeepLesion."
)
WRITES = tuple(f"table{n}.{suffix}" for n in (1, 2, 3) for suffix in ("md", "csv", "png"))


def tables(
    out: Out,
    data: Annotated[
        str, typer.Option("--data", help="A DeepLesion folder, or the word synthetic.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Of every training's config, as `lesionkit train` has."
        ),
    ] = None,
    table: Annotated[
        list[int] | None,
        typer.Option("--table", min=1, max=3, help="1, 2 or 3; repeatable. [default: all]"),
    ] = None,
    slices: Annotated[
        list[int] | None,
        typer.Option("--slices", help="Of Table 1; repeatable. [default: 9, 15 and 21]"),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            "--run",
            help="Instead of training: a result folder of train, eval or tables; repeatable.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each variant.")] = 1,
    patients: Patients = 560,
    image_size: ImageSize = 256,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", min=1, help="Trainings at a time. [default: 2 on synthetic data, else 1]"
        ),
    ] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Train what the paper's tables compare, or take finished runs; print and write the tables.

    Writes tables/table1.md and so on (Markdown, CSV, PNG) and a folder per training under runs/.
    A finished training is not done again: after an interruption, the same command goes on.
    """
    from lesionkit.cli.output import check_output, result_folder
    from lesionkit.cli.progress import progress
    from lesionkit.cli.table_runs import finish_all, plan, read_runs, tested
    from lesionkit.evaluation import read_truth
    from lesionkit.tables import (
        SLICES,
        TABLES,
        TITLES,
        draw_curves,
        needed,
        table_lines,
        to_csv,
        to_markdown,
    )

    chosen = choose_device(device)
    check_output(out / "tables", overwrite, "tables", WRITES)
    wanted, of_table_1 = sorted(set(table or TABLES)), _checked(slices or SLICES)
    is_synthetic = data == SYNTHETIC
    root = out / "data" if is_synthetic else Path(data)
    variants = needed(wanted, of_table_1)
    if run and overrides:
        raise InputError(f"{overrides[0]}: with --run nothing is trained; leave it out")
    planned = [] if run else plan(variants, seeds, overrides or (), root, is_synthetic, chosen)
    if is_synthetic:
        _make_data(root, patients, image_size)
    truth = read_truth(root / "DL_info.csv", "test")
    if run:
        folders = [tested(folder, root, out / "runs", chosen) for folder in run]
    else:
        folders = finish_all(planned, out / "runs", jobs or (2 if is_synthetic else 1))
    detections = read_runs(folders, truth)
    if not detections.keys() & set(variants):
        raise InputError(
            f"--run {run[0]}: no run is a row of the tables {wanted}; rows have "
            f"{sorted({variant.slices for variant in variants})} slices"
        )
    config = {
        "command": "tables",
        "arguments": {
            "data": data,
            "tables": wanted,
            "slices": of_table_1,
            "runs": [str(folder) for folder in folders],
        },
    }
    with result_folder(out / "tables", overwrite, config, WRITES) as folder:
        for number in wanted:
            with progress(f"table {number}") as update:
                lines = table_lines(number, detections, truth.records, of_table_1, update)
            text = to_markdown(number, lines, SYNTHETIC_NOTE if is_synthetic else "")
            (folder / f"table{number}.md").write_text(text, encoding="utf-8")
            (folder / f"table{number}.csv").write_text(to_csv(number, lines), encoding="utf-8")
            if number != 2:
                draw_curves(folder / f"table{number}.png", lines, TITLES[number])
            print(text)


def _checked(slices: Sequence[int]) -> list[int]:
    for count in slices:
        if count % 6 != 3 or not 3 < count < 300:
            raise InputError(f"--slices {count}: must be three times an odd number, from 9 to 297")
    return list(dict.fromkeys(slices))


def _make_data(out: Path, patients: int, image_size: int) -> None:
    """Make the synthetic data set in ``out`` unless it is there."""
    from lesionkit.cli.output import result_folder
    from lesionkit.cli.progress import progress
    from lesionkit.cli.synth import WRITES as DATA_WRITES
    from lesionkit.cli.table_runs import read_config
    from lesionkit.data import synthesize

    arguments = {
        "patients": patients,
        "seed": DATA_SEED,
        "image_size": image_size,
        "held_out": list(HELD_OUT),
    }
    if (out / "config.json").exists():
        if (there := read_config(out).get("arguments")) != arguments:
            raise InputError(
                f"{out}: holds the data of {there}, and {arguments} are wanted now; name another "
                "--out, or remove it"
            )
        return
    config = {"command": "synth", "arguments": arguments}
    with (
        result_folder(out, False, config, DATA_WRITES) as folder,
        progress("synthetic CT") as update,
    ):
        workers = min(os.cpu_count() or 1, max(1, patients // 8))
        synthesize(folder, patients, DATA_SEED, image_size, update, workers, HELD_OUT)
