"""``lesionkit eval``: a trained detector on a split of DeepLesion."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from lesionkit.cli.froc import REPLICATES, SPLITS, Replicates, write_report
from lesionkit.cli.options import (
    MAX_SEED,
    Device,
    Out,
    Overwrite,
    choose_device,
    limit_threads,
)
from lesionkit.errors import InputError

WRITES = ("curve.csv", "detections.json", "froc.png", "results.json")


def eval(
    weights: Annotated[
        Path, typer.Option("--weights", help="A detector's .safetensors file.", show_default=False)
    ],
    data: Annotated[
        Path,
        typer.Option("--data", help="A DeepLesion folder (with DL_info.csv).", show_default=False),
    ],
    out: Out,
    split: Annotated[str, typer.Option("--split", help="train, val, test or all.")] = "test",
    split_file: Annotated[
        Path | None,
        typer.Option(
            "--split-file",
            help="CSV with patient or file_name, and split, in place of DL_info.csv's splits.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Processes that read and prepare ahead.")
    ] = 0,
    replicates: Replicates = REPLICATES,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MAX_SEED, help="Of --replicates.")] = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Evaluate a detector: FROC with confidence intervals, by type, diameter and slice interval.

    Writes detections.json (which `lesionkit froc` reads, for other modes and conventions),
    results.json, curve.csv and froc.png. Under torchrun the images are shared out, and the
    results are the same.
    """
    from lesionkit.cli.output import check_output, result_folder
    from lesionkit.cli.progress import progress
    from lesionkit.data import DeepLesion
    from lesionkit.evaluation import write_detections
    from lesionkit.evaluation.groups import GROUPINGS
    from lesionkit.evaluation.report import FrocOptions, report_froc
    from lesionkit.files import sha256
    from lesionkit.inference import evaluate_dataset
    from lesionkit.inference.shards import joined_processes
    from lesionkit.models import load_detector

    if split not in SPLITS:
        raise InputError(f"--split {split}: must be one of {', '.join(SPLITS)}")
    with joined_processes() as rank:
        if rank == 0:
            check_output(out, overwrite, "eval", WRITES)
        model = load_detector(weights, _own_device(choose_device(device)))
        limit_threads(model.config.backbone)
        of_split = None if split == "all" else split
        dataset = DeepLesion(data, split=of_split, split_file=split_file)
        if not len(dataset):
            raise InputError(f"--split {split}: {split_file or data} has no lesions of it")
        with progress("detecting") if rank == 0 else nullcontext() as update:
            found = evaluate_dataset(model, dataset, update, workers)
    if rank:
        return
    arguments = {
        "weights": str(weights),
        "data": str(data),
        "split": split,
        "split_file": str(split_file.resolve()) if split_file else None,
        "replicates": replicates,
        "seed": seed,
        "device": device,
    }
    config = {
        "command": "eval",
        "arguments": arguments,
        "weights_sha256": sha256(weights),
        "detector": model.config.to_dict(),
    }
    with result_folder(out, overwrite, config, WRITES, keep_unfinished=True) as folder:
        records = list(dataset)
        write_detections(folder / "detections.json", [r.file_name for r in records], found)
        options = FrocOptions(replicates=replicates, seed=seed, by=GROUPINGS)
        with progress("measuring") as update:
            report = report_froc(
                found,
                [record.boxes for record in records],
                options,
                [record.patient for record in records],
                records,
                progress=update,
            )
        write_report(folder, report, weights.name)
    print(report)
    print(f"\n{out / 'results.json'}")


def _own_device(name: str) -> str:
    """Of a machine's GPUs, that of this one of torchrun's processes."""
    if name != "cuda" or "LOCAL_RANK" not in os.environ:
        return name
    import torch

    return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
