"""The runs behind ``lesionkit tables``: each a result folder with weights and detections."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lesionkit.cli.train import WRITES as TRAIN_WRITES
from lesionkit.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from lesionkit.data import DeepLesion, Preprocessing
    from lesionkit.evaluation import Truth
    from lesionkit.models import DetectorConfig, LesionDetector
    from lesionkit.tables import Variant
    from lesionkit.training import Samples, TrainingConfig

CHECKPOINT, DETECTIONS = "last.safetensors", "detections.json"
WEIGHTS = "weights.safetensors"
SYNTHETIC_TRAINING = {"training.epochs": 3, "training.tensorboard": False}
WRITES = (*TRAIN_WRITES, DETECTIONS)


@dataclass(frozen=True)
class Run:
    """One training of a variant, and what it is tested on.

    data: a DeepLesion folder. validate: whether weights are chosen on its validation split; the
    last ones are kept otherwise.
    """

    variant: "Variant"
    detector: "DetectorConfig"
    training: "TrainingConfig"
    data: Path
    validate: bool
    device: str

    @property
    def name(self) -> str:
        return f"{self.variant.slug}-seed-{self.training.seed}"

    @property
    def config(self) -> dict[str, Any]:
        return {
            "command": "tables",
            "arguments": {"data": str(self.data), "device": self.device},
            "detector": self.detector.to_dict(),
            "training": self.training.to_dict(),
        }


def is_finished(run: Run, out: Path) -> bool:
    """Whether ``out`` holds the run. Raises InputError if it holds another one."""
    if not (out / "config.json").exists():
        return False
    _check_same(run, read_config(out), out)
    return True


def finish(run: Run, out: Path, label: str | None = None) -> None:
    """Train and test into ``out``, going on where an earlier try was stopped.

    Shows progress under ``label``, or none.
    """
    from lesionkit.cli.output import result_folder, stopped_run
    from lesionkit.data import DeepLesion
    from lesionkit.models import load_detector
    from lesionkit.training import train

    training = _training_samples(run, label)
    validation = _samples(run, "val") if run.validate else None
    test = DeepLesion(run.data, split="test")
    stopped, config = stopped_run(out, "tables", CHECKPOINT) or (None, None)
    if stopped:
        _check_same(run, config, stopped)
    with result_folder(
        out, False, run.config, WRITES, keep_unfinished=True, continues=True, resume=stopped
    ) as folder:
        with _shown(label, "training") as update:
            result = train(
                run.detector,
                training,
                folder,
                run.training,
                validation,
                run.device,
                update,
                resume=stopped is not None,
            )
        model = load_detector(result.weights, run.device)
        _test(model, test, folder, label, run.training.workers)


def _check_same(run: Run, config: Mapping[str, Any], folder: Path) -> None:
    from lesionkit.training.run_config import different_key

    parts = ("detector", "training")
    there, wanted = ({name: of.get(name, {}) for name in parts} for of in (config, run.config))
    if found := different_key(there, wanted):
        key, old, new = found
        raise InputError(
            f"{folder}: was made with {key} = {old}, and {new} is wanted now; name another --out, "
            "or remove it"
        )


def tested(folder: Path, data: Path, out: Path, device: str) -> Path:
    """A finished run's folder with detections: ``folder`` itself, or one in ``out`` for a training
    that is tested now.
    """
    config = read_config(folder)
    if (folder / DETECTIONS).exists():
        return folder
    if not (folder / WEIGHTS).exists():
        raise InputError(f"{folder}: holds neither {DETECTIONS} nor {WEIGHTS}")
    place = out / f"{folder.resolve().parent.name}-{folder.resolve().name}"
    source = {"weights": str(folder.resolve() / WEIGHTS), "data": str(data)}
    if (place / "config.json").exists():
        if (there := read_config(place).get("arguments")) != source:
            raise InputError(f"{place}: is the test of {there}, not of {source}; remove it")
        return place

    from lesionkit.cli.output import result_folder
    from lesionkit.data import DeepLesion
    from lesionkit.models import load_detector

    model = load_detector(folder / WEIGHTS, device)
    record = {
        "command": "tables",
        "arguments": source,
        "detector": model.config.to_dict(),
        "training": config.get("training", {}),
    }
    with result_folder(place, False, record, (DETECTIONS,)) as unfinished:
        _test(model, DeepLesion(data, split="test"), unfinished, folder.name, 0)
    return place


def _test(
    model: "LesionDetector", test: "DeepLesion", folder: Path, label: str | None, workers: int
) -> None:
    from lesionkit.evaluation import write_detections
    from lesionkit.inference import evaluate_dataset

    with _shown(label, "testing") as update:
        found = evaluate_dataset(model, test, update, workers)
    write_detections(folder / DETECTIONS, [record.file_name for record in test], found)


def read_runs(
    folders: Sequence[Path], truth: "Truth"
) -> "dict[Variant, list[Sequence[np.ndarray]]]":
    """The detections of finished runs by the variant that their config.json names."""
    from lesionkit.evaluation import read_detections
    from lesionkit.models import DetectorConfig
    from lesionkit.tables import Variant

    runs: dict[Variant, list[Sequence[np.ndarray]]] = {}
    for folder in folders:
        config = read_config(folder)
        if "detector" not in config:
            raise InputError(f"{folder}: its config.json does not say which detector it was")
        variant = Variant.of(DetectorConfig.from_dict(config["detector"]))
        runs.setdefault(variant, []).append(read_detections(folder / DETECTIONS, truth))
    return runs


_prepared: "dict[tuple[Path, Preprocessing, float], Samples]" = {}


def _training_samples(run: Run, label: str | None) -> "Samples":
    """Prepared once for runs of as many slices that follow each other in one process."""
    key = (run.data, run.detector.preprocessing, run.training.cache_gib)
    if key not in _prepared:
        _prepared.clear()  # memory for one set
        samples = _samples(run, "train")
        with _shown(label, "preparing samples") as update:
            samples.preload(run.training.cache_gib * 2**30, update)
        _prepared[key] = samples
    return _prepared[key]


def _samples(run: Run, split: str) -> "Samples":
    from lesionkit.data import DeepLesion
    from lesionkit.training import deeplesion_samples

    dataset = DeepLesion(run.data, split=split)
    if not len(dataset):
        raise InputError(f"--data {run.data}: has no lesion in its {split} split")
    return deeplesion_samples(dataset, run.detector.preprocessing)


@contextmanager
def _shown(label: str | None, step: str) -> Iterator[Callable[..., None] | None]:
    from lesionkit.cli.progress import progress

    if label is None:
        yield None
    else:
        with progress(f"{label}, {step}") as update:
            yield update


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a result folder; InputError unless lesionkit wrote it."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{folder}: no config.json of a finished run in it ({error})") from None
    if not isinstance(config, dict) or "lesionkit" not in config:
        raise InputError(f"{folder}: its config.json was not written by lesionkit")
    return config


def plan(
    variants: "Sequence[Variant]",
    seeds: int,
    overrides: Sequence[str],
    data: Path,
    is_synthetic: bool,
    device: str,
) -> list[Run]:
    """The trainings of variants, all of one seed before those of the next.

    Raises InputError for an override that no config takes.
    """
    from lesionkit.training.run_config import read_run_config

    runs = []
    for variant in variants:
        preset, options = variant.preset, {}
        if is_synthetic:
            preset, options = "tiny", SYNTHETIC_TRAINING
        config = read_run_config(preset, options=options, overrides=overrides)
        runs += [
            Run(
                variant,
                variant.detector(config.detector),
                replace(config.training, seed=config.training.seed + number),
                data,
                validate=not is_synthetic,
                device=device,
            )
            for number in range(seeds)
        ]
    return sorted(runs, key=lambda run: (run.training.seed, run.variant.slices))


def finish_all(runs: "Sequence[Run]", out: Path, jobs: int) -> list[Path]:
    """Train and test what is not finished, ``jobs`` at a time; a folder in ``out`` for each."""
    from lesionkit.cli.options import limit_threads
    from lesionkit.cli.progress import progress
    from lesionkit.processes import map_in_processes

    left = [run for run in runs if not is_finished(run, out / run.name)]
    jobs = min(jobs, len(left))
    if jobs > 1:
        threads = max(1, (os.cpu_count() or 1) // jobs)
        work = partial(_finish_in, out, threads)
        with (
            progress(f"trainings, {jobs} at a time") as update,
            map_in_processes(work, left, jobs, "use fewer --jobs") as results,
        ):
            for done, _ in enumerate(results, 1):
                update(done, len(left))
    else:
        for number, run in enumerate(left, 1):
            limit_threads(run.detector.backbone)
            finish(run, out / run.name, f"{number}/{len(left)} {run.name}")
    return [out / run.name for run in runs]


def _finish_in(out: Path, threads: int, run: Run) -> None:
    import torch

    torch.set_num_threads(threads)
    finish(run, out / run.name)
