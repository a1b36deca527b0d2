"""One step: losses, gradients, clipping, weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from lesionkit.inference.detect import check_size
from lesionkit.models import LesionDetector
from lesionkit.models.ranks import is_distributed
from lesionkit.training.config import TrainingConfig
from lesionkit.training.samples import Sample

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def make_optimizer(model: LesionDetector, config: TrainingConfig) -> torch.optim.Optimizer:
    """SGD or AdamW; biases learn twice as fast and do not decay, as in 3DCE (MXNet)."""
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    weights = [p for name, p in model.named_parameters() if not name.endswith("bias")]
    groups = [
        {"params": weights, "weight_decay": config.weight_decay, "rate_factor": 1.0},
        {"params": biases, "weight_decay": 0.0, "rate_factor": 2.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)


def training_step(
    fabric: "Fabric",
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[Sample],
    seeds: Sequence[int],
    config: TrainingConfig,
) -> dict[str, float]:
    """Learn from one batch, of which this is a rank's part; the losses of the whole batch.

    Raises FloatingPointError, on every rank, if a loss is not finite.
    """
    for sample in batch:
        check_size(model, sample.images, sample.source)
    images = [fabric.to_device(sample.images) for sample in batch]
    targets = [{"boxes": fabric.to_device(sample.boxes)} for sample in batch]
    losses: dict[str, Tensor] = model(images, targets, [s.transform.scale for s in batch], seeds)
    values = _over_ranks(losses)
    if wrong := [f"{name} is {value}" for name, value in values.items() if not np.isfinite(value)]:
        raise FloatingPointError(", ".join(wrong))
    optimizer.zero_grad()
    fabric.backward(sum(losses.values()))
    fabric.clip_gradients(model, optimizer, clip_val=config.gradient_clip)
    optimizer.step()
    return values


def _over_ranks(losses: dict[str, Tensor]) -> dict[str, float]:
    values = torch.stack([value.detach().float() for value in losses.values()])
    if is_distributed():
        dist.all_reduce(values)
        values /= dist.get_world_size()
    return dict(zip(losses, values.tolist(), strict=True))


@contextmanager
def divergence(step: int) -> Iterator[None]:
    """Say of a FloatingPointError at which step it came, and what helps."""
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(
            f"training diverged at step {step}: {error}; use a lower learning rate"
        ) from error
