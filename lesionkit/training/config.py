"""How a detector is trained: one frozen dataclass, and the defaults of each preset."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lesionkit.errors import InputError


@dataclass(frozen=True)
class TrainingConfig:
    """Every choice of a training run; the defaults are those of Tao et al. 2019 on 3DCE.

    Sources: 3DCE (Yan et al. 2018, ``default.yml``, ``tools/train.py``) and Tao et al. 2019. A
    wrong value raises ValueError naming the field.

    epochs: passes over the training samples.
    batch_size: samples a step, of all processes together; the last batch of an epoch is dropped
        when it is short.
    optimizer: "sgd" (with ``momentum``) or "adamw".
    learning_rate: at its highest; biases take twice that and no weight decay (3DCE).
    momentum: of "sgd" alone.
    schedule: "step" (times 0.1 after each of ``milestones``) or "cosine" (to 0).
    milestones: epochs, of "step" alone; those beyond the last epoch change nothing.
    warmup_steps: steps over which the rate rises from 0.
    gradient_clip: limit of each element of the gradient, of its true value in "16-mixed" too.
    flip: whether samples are mirrored left to right half of the time (3DCE: never).
    shift: samples are moved right and down by up to so many pixels (3DCE: 0).
    validate_every: epochs from one validation to the next; the last epoch always has one.
    seed: of the weights, the order of samples, the augmentation and the sampling of boxes.
    precision: of Lightning Fabric: "32-true", "bf16-mixed", "16-mixed".
    cache_gib: memory for prepared samples of all processes of a machine; what does not fit is
        prepared each time.
    workers: processes that prepare what is not in the cache, for each process that trains.
    checkpoint_every: minutes from one checkpoint to the next within an epoch; 0 for every step.
        Each epoch ends with one, and each validation begins with one.
    tensorboard: whether to write events for TensorBoard.
    """

    epochs: int = 6
    batch_size: int = 2
    optimizer: str = "sgd"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-5
    schedule: str = "step"
    milestones: tuple[float, ...] = (4, 5)
    warmup_steps: int = 0
    gradient_clip: float = 5.0
    flip: bool = False
    shift: int = 0
    validate_every: int = 1
    seed: int = 23
    precision: str = "32-true"
    cache_gib: float = 2.0
    workers: int = 0
    checkpoint_every: float = 10.0
    tensorboard: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.milestones, list):  # as JSON gives it
            object.__setattr__(self, "milestones", tuple(self.milestones))
        if not isinstance(self.milestones, tuple) or not all(map(_is_epoch, self.milestones)):
            raise ValueError(f"milestones must be numbers of epochs >= 0, got {self.milestones!r}")
        for name, low, high, kind in _BOUNDS:
            value = getattr(self, name)
            accepted = (int, float) if kind is float else (int,)
            if isinstance(value, bool) or not isinstance(value, accepted):
                raise ValueError(f"{name} must be {_NOUNS[kind]}, got {value!r}")
            if not low <= value <= high:
                bounds = f">= {low:g}" if high == math.inf else f"in {low:g}..{high:g}"
                raise ValueError(f"{name} must be {bounds}, got {value!r}")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        for name in ("flip", "tensorboard"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.learning_rate == 0:
            raise ValueError("learning_rate must be > 0, got 0")

    def to_dict(self) -> dict[str, Any]:
        """The config as plain values that JSON keeps."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingConfig":
        """The config that :meth:`to_dict` wrote; fields that are left out keep their defaults.

        Raises InputError on an unknown field or a wrong value.
        """
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise InputError(f"training config: {error}") from None

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of a step, counted from 0."""
        rate = self.learning_rate * min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.schedule == "cosine":
            done = step / (self.epochs * steps_per_epoch)
            return rate * (1 + math.cos(math.pi * min(done, 1.0))) / 2
        return rate * 0.1 ** sum(step >= m * steps_per_epoch for m in self.milestones)


def _is_epoch(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


_NOUNS = {int: "a whole number", float: "a number"}
_BOUNDS = (
    ("epochs", 1, math.inf, int),
    ("batch_size", 1, math.inf, int),
    ("learning_rate", 0, 10, float),
    ("momentum", 0, 1, float),
    ("weight_decay", 0, 10, float),
    ("warmup_steps", 0, math.inf, int),
    ("gradient_clip", 1e-6, 1e9, float),
    ("shift", 0, 256, int),
    ("validate_every", 1, math.inf, int),
    ("seed", 0, 2**32 - 1, int),
    ("cache_gib", 0, 1e6, float),
    ("workers", 0, 256, int),
    ("checkpoint_every", 0, 1e6, float),
)
_CHOICES = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("step", "cosine"),
    "precision": ("32-true", "bf16-mixed", "16-mixed"),
}

# By the name of the detector's preset.
TRAINING_PRESETS: dict[str, TrainingConfig] = {
    "3dce_cs_att": TrainingConfig(),
    "3dce": TrainingConfig(weight_decay=5e-4),
    "improved_rfcn": TrainingConfig(weight_decay=5e-4),
    # AdamW and a falling rate, since SGD from random weights learns little in 400 steps. One
    # validation, of the final weights: a choice among epochs on so few lesions is chance.
    "tiny": TrainingConfig(
        epochs=16,
        batch_size=4,
        optimizer="adamw",
        learning_rate=2e-3,
        weight_decay=1e-2,
        schedule="cosine",
        warmup_steps=50,
        flip=True,
        shift=16,
        validate_every=16,
    ),
}
