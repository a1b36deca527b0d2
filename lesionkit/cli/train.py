"""``lesionkit train``: a detector from DeepLesion or from marked slices of one scan."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionkit.cli.options import (
    MAX_SEED,
    Device,
    Out,
    Overwrite,
    check_outside,
    choose_device,
    limit_threads,
)
from lesionkit.errors import InputError

if TYPE_CHECKING:
    from lesionkit.data import Preprocessing
    from lesionkit.models import DetectorConfig
    from lesionkit.training import Samples

WRITES = ("metrics.jsonl", "weights.safetensors")
BACKBONE_WEIGHTS = {"imagenet": "torchvision", "none": None}


def train(
    out: Out,
    data: Annotated[
        Path | None, typer.Option("--data", help="A DeepLesion folder (with DL_info.csv).")
    ] = None,
    scan: Annotated[
        Path | None, typer.Option("--scan", help="Instead of --data: a CT scan, with --boxes.")
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            "--boxes",
            help="CSV with columns slice,x1,y1,x2,y2: 0-based slice and pixels, ends included.",
        ),
    ] = None,
    preset: Annotated[str, typer.Option("--preset", help="Which detector.")] = "3dce_cs_att",
    backbone_weights: Annotated[
        str | None,
        typer.Option(
            "--backbone-weights",
            help="What the backbone starts from: imagenet (fetched once) or none (random). "
            "[default: the preset's]",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="[default: the preset's]")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="[default: the preset's]")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="[default: the preset's]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=MAX_SEED, help="[default: the preset's]")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", help="Processes that read what memory does not hold.")
    ] = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Train a detector; writes weights.safetensors and metrics.jsonl.

    With --data, the weights kept are those with the best sensitivity at 4 false positives per
    image on the validation split. With --scan, there is nothing to validate on and the last ones
    are kept.
    """
    from dataclasses import replace

    from lesionkit.cli.output import check_output, result_folder
    from lesionkit.cli.progress import progress
    from lesionkit.models import PRESETS
    from lesionkit.training import TRAINING_PRESETS
    from lesionkit.training import train as run

    if scan is not None:
        check_outside(out, scan)
    check_output(out, overwrite, "train", WRITES)
    if preset not in PRESETS:
        raise InputError(f"--preset {preset}: must be one of {', '.join(PRESETS)}")
    given = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "workers": workers,
    }
    try:
        config = replace(
            TRAINING_PRESETS[preset], **{k: v for k, v in given.items() if v is not None}
        )
    except ValueError as error:
        raise InputError(f"training config: {error}") from None
    chosen = choose_device(device)
    detector = _with_backbone_weights(PRESETS[preset], backbone_weights)
    limit_threads(detector.backbone)
    training, validation = _samples(data, scan, boxes, detector.preprocessing)
    with progress("preparing samples") as update:
        kept = training.preload(config.cache_gib * 2**30, update)
    if validation is not None and kept == len(training):
        with progress("preparing validation samples") as update:
            validation.preload(config.cache_gib * 2**30, update)

    sources = {"data": data, "scan": scan, "boxes": boxes}
    record = {
        "command": "train",
        "arguments": {
            **{name: str(path) for name, path in sources.items() if path},
            "preset": preset,
            "device": device,
        },
        "detector": detector.to_dict(),
        "training": config.to_dict(),
    }
    with (
        result_folder(out, overwrite, record, WRITES, keep_unfinished=True) as folder,
        progress("training") as update,
    ):
        result = run(detector, training, folder, config, validation, chosen, update)
    quality = (
        f"; {100 * result.sensitivity:.1f} % of the validation lesions at 4 false positives a slice"
        if result.sensitivity is not None
        else ""
    )
    print(f"{out / result.weights.name}: epoch {result.epoch} of {config.epochs}{quality}")


def _with_backbone_weights(detector: "DetectorConfig", name: str | None) -> "DetectorConfig":
    from dataclasses import replace

    if name is None:
        return detector
    if name not in BACKBONE_WEIGHTS:
        raise InputError(f"--backbone-weights {name}: must be one of {', '.join(BACKBONE_WEIGHTS)}")
    try:
        return replace(detector, backbone_weights=BACKBONE_WEIGHTS[name])
    except ValueError as error:
        raise InputError(f"--backbone-weights {name}: {error}") from None


def _samples(
    data: Path | None, scan: Path | None, boxes: Path | None, preprocessing: "Preprocessing"
) -> "tuple[Samples, Samples | None]":
    """Training and validation samples from whichever source was given."""
    from lesionkit.cli.progress import progress
    from lesionkit.data import DeepLesion, read_ct
    from lesionkit.training import deeplesion_samples, read_boxes, scan_samples

    if data is not None and scan is None and boxes is None:
        training, validation = (DeepLesion(data, split=split) for split in ("train", "val"))
        if not len(training):
            raise InputError(f"--data {data}: no training lesions (Train_Val_Test = 1)")
        return (
            deeplesion_samples(training, preprocessing),
            deeplesion_samples(validation, preprocessing) if len(validation) else None,
        )
    if data is None and scan is not None and boxes is not None:
        with progress(f"reading {scan}"):
            volume = read_ct(scan)
        return scan_samples(volume, read_boxes(boxes, volume), preprocessing), None
    raise InputError("give either --data, or --scan with --boxes")
