"""The training loop: plain PyTorch, with Lightning Fabric for device and precision."""

import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lesionkit.evaluation import FrocResult, froc
from lesionkit.inference.detect import check_size, detect_sample
from lesionkit.models import DetectorConfig, LesionDetector, save_detector
from lesionkit.processes import allow_termination, hold_signals
from lesionkit.training.config import TrainingConfig
from lesionkit.training.samples import Augmented, Samples

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Progress = Callable[[int, int, str], None]

SELECTION_FP = 4.0  # false positives per image at which weights are compared, as in 3DCE
WEIGHTS, METRICS = "weights.safetensors", "metrics.jsonl"


@dataclass(frozen=True)
class TrainingResult:
    """weights: the file kept. epoch: the one it is from, counted from 1. sensitivity: on the
    validation samples at 4 false positives per image, None without any.
    """

    weights: Path
    epoch: int
    sensitivity: float | None


def train(
    model: LesionDetector | DetectorConfig | str,
    training: Samples,
    out: str | os.PathLike,
    config: TrainingConfig,
    validation: Samples | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> TrainingResult:
    """Train a detector and write ``weights.safetensors`` and ``metrics.jsonl`` into ``out``.

    The same arguments give the same weights on a CPU. Weights are written at each validation that
    is no worse than the best before (sensitivity at 4 false positives per image); without
    validation samples, after every epoch.

    Args:
        model: a detector to train on, or a config or preset name for a new one (which loads the
            backbone weights that its config names).
        training, validation: samples prepared with the model's own ``preprocessing``.
        out: a folder; it is made if needed.
        config: the choices.
        device: "auto", "cpu", "cuda", or "cuda:1".
        progress: called with (steps done, steps in all, a note on how it goes); during a
            validation the note counts its samples.

    Raises:
        FloatingPointError: a loss or a weight is not finite; the message names step and losses,
            or the weight. The best weights so far stay in ``out``.
        InputError: a slice is too small for the network.
        ValueError: there is no training sample.
    """
    if len(training) == 0:
        raise ValueError("training must hold at least one sample")
    _seed(config.seed)
    if not isinstance(model, LesionDetector):
        model = LesionDetector(model, pretrained=True)
    fabric = _fabric(device, config.precision)
    detector = model  # without Fabric's wrapper, for validation and saving
    model, optimizer = fabric.setup(model, _optimizer(model, config))

    samples = Augmented(training, config)
    loader = DataLoader(
        samples,
        batch_size=min(config.batch_size, len(samples)),
        shuffle=True,
        drop_last=True,
        collate_fn=list,
        num_workers=config.workers,
        worker_init_fn=allow_termination,
        generator=torch.Generator().manual_seed(config.seed),
    )
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    best, best_epoch, step, note = -1.0, 0, 0, ""

    def report(note: str) -> None:
        if progress:
            progress(step, config.epochs * len(loader), note)

    with open(out / METRICS, "w", encoding="utf-8") as metrics:
        for epoch in range(1, config.epochs + 1):
            samples.epoch = epoch
            detector.train()
            sums: dict[str, float] = {}
            with hold_signals():  # here the workers start
                batches = iter(loader)
            for batch in batches:
                for group in optimizer.param_groups:
                    group["lr"] = config.rate(step, len(loader)) * group["rate_factor"]
                step += 1
                with _divergence(step):
                    values = _step(fabric, model, optimizer, batch, config)
                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + value
                report(note)
            losses = {name: value / len(loader) for name, value in sums.items()}
            line: dict[str, Any] = {"epoch": epoch, "step": step, **losses}
            note = f"epoch {epoch}, loss {sum(losses.values()):.3f}"
            sensitivity = None
            with _divergence(step):
                if validation and _is_validated(epoch, config):
                    result = validate(
                        detector,
                        validation,
                        config.workers,
                        lambda done, total: report(f"validating {done}/{total}"),
                    )
                    sensitivity = float(result.sensitivity[0])
                    line["validation_sensitivity"] = sensitivity
                    note += f", {100 * sensitivity:.0f} % found at {SELECTION_FP:g} FP"
                if not validation or (sensitivity is not None and sensitivity >= best):
                    best, best_epoch = sensitivity if sensitivity is not None else -1.0, epoch
                    save_detector(detector, out / WEIGHTS, {"epoch": str(epoch)})
            metrics.write(json.dumps(line) + "\n")
            metrics.flush()
    return TrainingResult(out / WEIGHTS, best_epoch, best if validation else None)


@contextmanager
def _divergence(step: int) -> Iterator[None]:
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(
            f"training diverged at step {step}: {error}; use a lower learning rate"
        ) from error


def validate(
    model: LesionDetector,
    samples: Samples,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> FrocResult:
    """FROC at 4 false positives per image; leaves ``model`` in evaluation mode.

    Samples are prepared one by one, in ``workers`` processes, and let go.
    """
    model.eval()
    # A generator of its own: a loader without one draws from that of the training.
    loader = DataLoader(
        samples,
        batch_size=None,
        num_workers=workers,
        worker_init_fn=allow_termination,
        generator=torch.Generator(),
    )
    with hold_signals():  # here the workers start
        prepared = iter(loader)
    found, truth = [], []
    for sample in prepared:
        found.append(detect_sample(model, sample.images, sample.transform, sample.source))
        truth.append(sample.truth)
        if progress:
            progress(len(found), len(samples))
    return froc(found, truth, fp_per_image=(SELECTION_FP,))


def _step(
    fabric: "Fabric",
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: list,
    config: TrainingConfig,
) -> dict[str, float]:
    for sample in batch:
        check_size(model, sample.images, sample.source)
    images = [fabric.to_device(sample.images) for sample in batch]
    targets = [{"boxes": fabric.to_device(sample.boxes)} for sample in batch]
    losses: dict[str, Tensor] = model(images, targets, [s.transform.scale for s in batch])
    values = {name: value.item() for name, value in losses.items()}
    if wrong := [f"{name} is {value}" for name, value in values.items() if not np.isfinite(value)]:
        raise FloatingPointError(", ".join(wrong))
    optimizer.zero_grad()
    fabric.backward(sum(losses.values()))
    torch.nn.utils.clip_grad_value_(model.parameters(), config.gradient_clip)
    optimizer.step()
    return values


def _optimizer(model: LesionDetector, config: TrainingConfig) -> torch.optim.Optimizer:
    # 3DCE (MXNet): biases learn twice as fast and do not decay.
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    weights = [p for name, p in model.named_parameters() if not name.endswith("bias")]
    groups = [
        {"params": weights, "weight_decay": config.weight_decay, "rate_factor": 1.0},
        {"params": biases, "weight_decay": 0.0, "rate_factor": 2.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)


def _is_validated(epoch: int, config: TrainingConfig) -> bool:
    return epoch % config.validate_every == 0 or epoch == config.epochs


def _fabric(device: str, precision: str) -> "Fabric":
    from lightning_fabric import Fabric

    accelerator, _, index = device.partition(":")
    return Fabric(
        accelerator=accelerator, devices=[int(index)] if index else 1, precision=precision
    )


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (users' own code may draw from it)
    torch.manual_seed(seed)
