"""``lesionkit train``: a detector from DeepLesion or from marked slices of one scan."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lesionkit.cli.options import (
    MAX_SEED,
    Out,
    Overwrite,
    check_outside,
    choose_device,
    limit_threads,
)
from lesionkit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from lesionkit.data import Preprocessing
    from lesionkit.training import RunConfig, Samples
    from lesionkit.training.checkpoint import Checkpoint

WRITES = (
    *("last.safetensors", "previous.safetensors", "weights.safetensors"),
    *("metrics.jsonl", "tensorboard/events.out.tfevents.*"),
)
BACKBONE_WEIGHTS = {"imagenet": "torchvision", "none": None}
_PRESETS_DEFAULT = "[default: the preset's]"


def train(
    out: Out,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Any field of the config, such as training.epochs=2 or "
            "detector.preprocessing.interpolation=legacy.",
            show_default=False,
        ),
    ] = None,
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
    split_file: Annotated[
        Path | None,
        typer.Option(
            "--split-file",
            help="CSV with patient or file_name, and split (train, val or test), in place of the "
            "splits in DL_info.csv.",
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="Which detector. [default: 3dce_cs_att]")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="YAML with preset, detector and training, each optional."),
    ] = None,
    slices: Annotated[
        int | None,
        typer.Option("--slices", help="Slices of a sample: 3, 9, 15, 21 or 27, three an image."),
    ] = None,
    backbone_weights: Annotated[
        str | None,
        typer.Option(
            "--backbone-weights",
            help="What the backbone starts from: imagenet (fetched once), none (random), or an "
            f".onnx or .safetensors file of a VGG16. {_PRESETS_DEFAULT}",
        ),
    ] = None,
    backbone_input: Annotated[
        str | None,
        typer.Option(
            "--backbone-input",
            help="What input the weights of such a file expect: torchvision (RGB in 0..1, "
            "normalised) or caffe (BGR in 0..255 minus a mean; Keras too).",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help=_PRESETS_DEFAULT)] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help=_PRESETS_DEFAULT)] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help=_PRESETS_DEFAULT)
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=MAX_SEED, help=_PRESETS_DEFAULT)
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes that read what memory does not hold."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N. [default: auto]")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run that was stopped in --out, with its own config; or start "
            "where none was.",
        ),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a detector; writes weights.safetensors (the best), last.safetensors (the last
    checkpoint), metrics.jsonl and events for TensorBoard.

    With --data, the best weights are those with the highest sensitivity at 4 false positives per
    image on the validation split. With --scan, there is nothing to validate on and the last ones
    are kept. Several GPUs: torchrun --nproc-per-node N -m lesionkit train ...
    """
    from lesionkit.training import read_run_config
    from lesionkit.training.checkpoint import last_checkpoint

    stopped, kept = _stopped_run(out, overwrite) if resume else (None, {})
    given = {"data": data, "split_file": split_file, "scan": scan, "boxes": boxes}
    sources = _sources(given, kept, stopped)
    options = {
        "detector.preprocessing.num_images": _images(slices),
        "detector.backbone_input": backbone_input,
        "training.epochs": epochs,
        "training.batch_size": batch_size,
        "training.learning_rate": learning_rate,
        "training.seed": seed,
        "training.workers": workers,
    }
    options = {key: value for key, value in options.items() if value is not None}
    if backbone_weights is not None:
        options["detector.backbone_weights"] = _backbone_weights(backbone_weights)
    run = read_run_config(preset, config, options, overrides or (), kept or None)
    if stopped:
        _check_same(run, kept, stopped)
        checkpoint = last_checkpoint(stopped)
        if checkpoint.damage:
            _tell(f"{checkpoint.damage}; going on from the checkpoint before it")
        resumed = stopped, checkpoint
    else:
        resumed = None, None
    _run(run, sources, out, device or kept.get("device", "auto"), overwrite, *resumed)


def _run(
    run: "RunConfig",
    sources: Mapping[str, Path],
    out: Path,
    device: str,
    overwrite: bool,
    stopped: Path | None,
    checkpoint: "Checkpoint | None",
) -> None:
    """Prepare the samples and train on them; of several ranks the first writes and reports."""
    from contextlib import nullcontext

    from lesionkit.cli.output import check_output, result_folder
    from lesionkit.training import train as train_detector
    from lesionkit.training.checkpoint import Run
    from lesionkit.training.distributed import local_ranks, rank

    is_first = rank() == 0
    if "scan" in sources:
        check_outside(out, sources["scan"])
    if not stopped:  # every rank, since one that ended alone would leave the others waiting
        check_output(out, overwrite, "train", WRITES)
        _tell_stopped(out)
    chosen = choose_device(device)
    limit_threads(run.detector.backbone)
    training, validation = _samples(**sources, preprocessing=run.detector.preprocessing)
    if checkpoint:
        checkpoint.check(Run(run.detector, run.training, training, validation))
    cache = run.training.cache_gib * 2**30 / local_ranks()
    with _progress("preparing samples") as update:
        kept = training.preload(cache, update)
    if validation is not None and kept == len(training):
        with _progress("preparing validation samples") as update:
            validation.preload(cache, update)

    record = {
        "command": "train",
        "arguments": {
            **{name: str(path) for name, path in sources.items()},
            "preset": run.preset,
            "device": device,
        },
        "detector": run.detector.to_dict(),
        "training": run.training.to_dict(),
    }
    results = result_folder(out, overwrite, record, WRITES, keep_unfinished=True, resume=stopped)
    try:
        with results if is_first else nullcontext(out) as folder, _progress("training") as update:
            result = train_detector(
                run.detector,
                training,
                folder,
                run.training,
                validation,
                chosen,
                update,
                resume=checkpoint or False,
            )
    except (KeyboardInterrupt, OSError) as error:
        if getattr(error, "__notes__", None):  # which say where it is
            error.add_note("lesionkit train --resume goes on with it")
        raise
    if is_first:
        quality = (
            f"; {100 * result.sensitivity:.1f} % of the validation lesions at 4 false positives "
            "per image"
            if result.sensitivity is not None
            else ""
        )
        name = out / result.weights.name
        print(f"{name}: epoch {result.epoch} of {run.training.epochs}{quality}")


def _tell(line: str) -> None:
    """Of the first rank."""
    from lesionkit.training.distributed import rank

    if rank() == 0:
        print(line, file=sys.stderr)


def _tell_stopped(out: Path) -> None:
    """Say which unfinished runs ``out`` holds, which this one does not go on with."""
    from lesionkit.cli.output import left_behind

    for path in left_behind(out, "train", "last.safetensors"):
        metrics = path.with_name("metrics.jsonl")
        epochs = metrics.read_bytes().count(b"\n") if metrics.is_file() else 0
        _tell(
            f"{path.parent}: holds a run that has not finished ({epochs} epochs done); --resume "
            "goes on with it, without it this is another run"
        )


def _progress(label: str) -> "AbstractContextManager[Callable[..., None]]":
    """Of the first rank; the others are silent."""
    from contextlib import nullcontext

    from lesionkit.cli.progress import progress
    from lesionkit.training.distributed import rank

    return progress(label) if rank() == 0 else nullcontext(lambda *_: None)


def _images(slices: int | None) -> int | None:
    if slices is not None and (slices < 3 or slices % 6 != 3):
        raise InputError(
            f"--slices {slices}: must be 3 times an odd number of images: 3, 9, 15, 21 or 27"
        )
    return slices and slices // 3


def _backbone_weights(name: str) -> str | None:
    if name in BACKBONE_WEIGHTS:
        return BACKBONE_WEIGHTS[name]
    if not name.endswith((".onnx", ".safetensors")):
        raise InputError(
            f"--backbone-weights {name}: must be one of imagenet, none, or an .onnx or "
            ".safetensors file"
        )
    if not Path(name).is_file():
        raise InputError(f"--backbone-weights {name}: no such file")
    return name


def _stopped_run(out: Path, overwrite: bool) -> tuple[Path | None, dict[str, Any]]:
    """The folder of the run to resume and its config: "preset", "detector", "training", sources.

    Nothing if there is none: then a run starts, so that the same command line serves to begin
    and to go on.
    """
    from lesionkit.cli.output import stopped_run

    if overwrite:
        raise InputError("--resume goes on with a run, --overwrite replaces it; give one of them")
    found = stopped_run(out, "train", "last.safetensors")
    if found is None:
        _tell(f"{out}: no stopped run to resume; starting one")
        return None, {}
    folder, config = found
    try:
        return folder, {
            **config["arguments"],
            "detector": {**config["detector"]},
            "training": {**config["training"]},
        }
    except (KeyError, TypeError):
        raise InputError(
            f"{folder}: its config.json does not say what it trained; start another run"
        ) from None


def _sources(
    given: Mapping[str, Path | None], kept: Mapping[str, Any], stopped: Path | None
) -> dict[str, Path]:
    """Where samples come from, as absolute paths: as given, else as in the run that is resumed."""
    sources = {name: path.resolve() for name, path in given.items() if path is not None}
    if not stopped:
        return sources
    of_run = {name: Path(kept[name]) for name in given if name in kept}
    for name, path in sources.items():
        if of_run.get(name) != path:
            raise InputError(
                f"--{name.replace('_', '-')} {given[name]}: the run in {stopped} has "
                f"{of_run.get(name)}; resume it with the same"
            )
    return of_run


def _check_same(run: "RunConfig", kept: Mapping[str, Any], stopped: Path) -> None:
    from lesionkit.training.run_config import different_key

    given = {
        "preset": run.preset,
        "detector": run.detector.to_dict(),
        "training": run.training.to_dict(),
    }
    if found := different_key({key: kept[key] for key in given}, given):
        key, old, new = found
        raise InputError(
            f"{key}={new}: the run in {stopped} has {key}={old}; resume it with the same, or "
            "start another run"
        )


def _samples(
    data: Path | None = None,
    scan: Path | None = None,
    boxes: Path | None = None,
    split_file: Path | None = None,
    *,
    preprocessing: "Preprocessing",
) -> "tuple[Samples, Samples | None]":
    """Training and validation samples from whichever source was given."""
    from lesionkit.data import DeepLesion, read_ct
    from lesionkit.training import deeplesion_samples, read_boxes, scan_samples

    if data is not None and scan is None and boxes is None:
        training, validation = (
            DeepLesion(data, split=split, split_file=split_file) for split in ("train", "val")
        )
        if not len(training):
            raise InputError(
                f"--split-file {split_file}: has no training lesions (split train)"
                if split_file
                else f"--data {data}: no training lesions (Train_Val_Test = 1)"
            )
        return (
            deeplesion_samples(training, preprocessing),
            deeplesion_samples(validation, preprocessing) if len(validation) else None,
        )
    if data is None and split_file is None and scan is not None and boxes is not None:
        with _progress(f"reading {scan}"):
            volume = read_ct(scan)
        return scan_samples(volume, read_boxes(boxes, volume), preprocessing), None
    raise InputError("give either --data, alone or with --split-file, or --scan with --boxes")
