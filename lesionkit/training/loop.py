"""The training loop: plain PyTorch, with Lightning Fabric for devices, ranks and precision."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from lesionkit.errors import InputError
from lesionkit.models import DetectorConfig, LesionDetector, save_detector
from lesionkit.processes import allow_termination, hold_signals
from lesionkit.training.checkpoint import (
    CHECKPOINT,
    PREVIOUS,
    Checkpoint,
    Position,
    Run,
    last_checkpoint,
    save_checkpoint,
)
from lesionkit.training.config import TrainingConfig
from lesionkit.training.distributed import start
from lesionkit.training.log import RunLog
from lesionkit.training.order import epoch_batches, rank_batches, sampling_seed, seed_everything
from lesionkit.training.samples import Augmented, Samples
from lesionkit.training.step import divergence, make_optimizer, training_step
from lesionkit.training.validation import SELECTION_FP, validate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Progress = Callable[[int, int, str], None]

WEIGHTS = "weights.safetensors"


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
    resume: bool | Checkpoint = False,
) -> TrainingResult:
    """Train a detector; write weights, a checkpoint, metrics and TensorBoard events into ``out``.

    ``weights.safetensors`` is written at each validation that is no worse than the best before
    (sensitivity at 4 false positives per image); without validation samples, after every epoch.
    ``last.safetensors`` is the last checkpoint, and loads as weights too. The same arguments give
    the same weights on a CPU, stopped and resumed or not.

    Under torchrun every rank calls this with the same arguments. ``config.batch_size`` is that of
    all ranks together, whose number changes results no more than rounding does. Rank 0 writes.

    Args:
        model: a detector to train on, or a config or preset name for a new one (which loads the
            backbone weights that its config names).
        training, validation: samples prepared with the model's own ``preprocessing``.
        out: a folder; it is made if needed.
        config: the choices.
        device: "auto", "cpu", "cuda", or "cuda:1".
        progress: called with (steps done, steps in all, a note on how it goes); during a
            validation the note counts its samples.
        resume: go on from the last checkpoint in ``out``, if there is one, or from this one, which
            was read there.

    Raises:
        FloatingPointError: a loss or a weight is not finite; the message names step and losses,
            or the weight. The best weights so far stay in ``out``.
        InputError: a slice is too small for the network, the ranks cannot share the batch or the
            devices, or the checkpoint is damaged or of a run with another config.
        ValueError: there is no training sample.
    """
    if len(training) == 0:
        raise ValueError("training must hold at least one sample")
    seed_everything(config.seed)
    fabric = start(device, config.precision)
    batch_size = _batch_size(config, len(training), fabric.world_size)
    out = Path(fabric.broadcast(str(out)))
    kept = last_checkpoint(out) if resume is True else resume or None
    if not isinstance(model, LesionDetector):
        with fabric.rank_zero_first(local=True):  # one process of a machine fetches weights
            model = LesionDetector(model, pretrained=kept is None)
    optimizer = make_optimizer(model, config)
    job = _Job(
        fabric=fabric,
        detector=model,
        optimizer=optimizer,
        run=Run(model.config, config, training, validation),
        samples=Augmented(training, config),
        validation=validation or None,
        batch_size=batch_size,
        out=out,
        progress=progress,
    )
    if kept:
        kept.check(job.run)
        job.position = kept.position
    job.wrapped = fabric.setup(model, optimizer)
    if kept:
        kept.restore(model, optimizer)
        fabric.strategy.precision.load_state_dict(kept.scaler)
    out.mkdir(parents=True, exist_ok=True)
    begun = job.position.step
    if fabric.is_global_zero:
        if kept and kept.damage:  # or the damaged one would take the place of the whole one
            os.replace(kept.path, out / CHECKPOINT)
        job.log = RunLog(out, config.tensorboard, kept.logs if kept else {})
    try:
        if not kept:
            job.keep()
        while job.position.epoch <= config.epochs:
            _epoch(job)
    except BaseException:
        if job.position.step == begun == 0 and fabric.is_global_zero:
            (out / CHECKPOINT).unlink(missing_ok=True)  # it would not save anybody anything
        raise
    else:
        if fabric.is_global_zero:
            (out / PREVIOUS).unlink(missing_ok=True)
    finally:
        if job.log:
            job.log.close()
    best = job.position
    return TrainingResult(out / WEIGHTS, best.best_epoch, best.best if job.validation else None)


@dataclass
class _Job:
    """A run at work. ``wrapped`` are model and optimizer as Fabric has them; ``detector`` and
    ``optimizer`` are bare, for validation and saving. ``log`` is rank 0's alone.
    """

    fabric: "Fabric"
    detector: LesionDetector
    optimizer: torch.optim.Optimizer
    run: Run
    samples: Augmented
    validation: Samples | None
    batch_size: int
    out: Path
    progress: Progress | None
    wrapped: tuple[Any, Any] = ()
    position: Position = field(default_factory=Position)
    log: RunLog | None = None
    kept_at: float = 0.0
    quality: str = ""  # what the last validation found

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return len(self.samples) // self.batch_size

    def report(self, note: str) -> None:
        if self.progress and self.fabric.is_global_zero:
            self.progress(self.position.step, self.run.training.epochs * self.steps, note)

    def keep(self) -> None:
        """Write a checkpoint."""
        if self.log:
            save_checkpoint(
                self.out / CHECKPOINT,
                self.detector,
                self.optimizer,
                self.fabric.strategy.precision.state_dict(),
                self.run,
                self.position,
                self.log.sizes(),
            )
        self.kept_at = time.monotonic()


def _epoch(job: _Job) -> None:
    """What is left of the epoch that the run is in, and its validation."""
    config, position = job.run.training, job.position
    _learn(job)
    losses = {name: value / job.steps for name, value in position.sums.items()}
    line: dict[str, Any] = {"epoch": position.epoch, "step": position.step, **losses}
    with divergence(position.step):
        if job.validation and _is_validated(position.epoch, config):
            job.keep()
            result = validate(
                job.detector,
                job.validation,
                config.workers,
                lambda done, total: job.report(f"validating {done}/{total}"),
            )
            line["validation_sensitivity"] = sensitivity = float(result.sensitivity[0])
            job.quality = (
                f", {100 * sensitivity:.0f} % found at {SELECTION_FP:g} false positives per image"
            )
        sensitivity = line.get("validation_sensitivity")
        if not job.validation or (sensitivity is not None and sensitivity >= position.best):
            position.best = -1.0 if sensitivity is None else sensitivity
            position.best_epoch = position.epoch
            if job.log:
                save_detector(job.detector, job.out / WEIGHTS, {"epoch": str(position.epoch)})
        if job.log:
            job.log.epoch(line)
        position.epoch, position.sums = position.epoch + 1, {}
        job.keep()


def _learn(job: _Job) -> None:
    config, position, fabric = job.run.training, job.position, job.fabric
    epoch = position.epoch
    batches = epoch_batches(len(job.samples), job.batch_size, config.seed, epoch)
    batches = batches[position.step - (epoch - 1) * job.steps :]
    batches = rank_batches(batches, fabric.global_rank, fabric.world_size)
    job.samples.epoch = epoch
    loader = DataLoader(
        job.samples,
        batch_sampler=batches,
        collate_fn=list,
        num_workers=config.workers,
        worker_init_fn=allow_termination,
        generator=torch.Generator(),  # without one it draws from the global one
    )
    job.detector.train()
    with hold_signals():  # here the workers start
        loaded = iter(loader)
    for indices, batch in zip(batches, loaded, strict=True):
        rate = config.rate(position.step, job.steps)
        for group in job.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        seeds = [sampling_seed(config.seed, epoch, index) for index in indices]
        with divergence(position.step + 1):
            losses = training_step(fabric, *job.wrapped, batch, seeds, config)
        position.step += 1
        for name, value in losses.items():
            position.sums[name] = position.sums.get(name, 0.0) + value
        if job.log:
            job.log.step(position.step, losses, rate)
        done = position.step - (epoch - 1) * job.steps
        job.report(f"epoch {epoch}, loss {sum(position.sums.values()) / done:.3f}{job.quality}")
        if time.monotonic() - job.kept_at >= 60 * config.checkpoint_every and done < job.steps:
            with divergence(position.step):
                job.keep()


def _batch_size(config: TrainingConfig, samples: int, ranks: int) -> int:
    size = min(config.batch_size, samples)
    if size % ranks:
        raise InputError(
            f"batch_size {size} must be a multiple of the {ranks} processes that share it; use "
            f"{-(-size // ranks) * ranks}, or fewer processes"
        )
    return size


def _is_validated(epoch: int, config: TrainingConfig) -> bool:
    return epoch % config.validate_every == 0 or epoch == config.epochs
