"""Checkpoints: all that a run needs to go on as if it had never stopped.

A checkpoint is a weights file of the detector, so that ``load_detector`` reads it, with the state
of the training beside the weights: tensors of the optimizer and of the random generators, and in
the header as JSON what is no tensor. It is written at once or not at all, and read without running
code. A digest of all of it tells damage, and the checkpoint before it is kept for that case.
"""

import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lesionkit.errors import InputError
from lesionkit.files import keep_former
from lesionkit.models import DetectorConfig, LesionDetector, load_detector, save_detector
from lesionkit.models.weights import load_beside
from lesionkit.training.config import TrainingConfig
from lesionkit.training.run_config import different_key
from lesionkit.training.samples import Samples

CHECKPOINT = "last.safetensors"
PREVIOUS = "previous.safetensors"
_OPTIMIZER, _RANDOM = "optimizer.", "random."
_ANNOTATIONS = {"annotations.training": "training", "annotations.validation": "validation"}


@dataclass
class Position:
    """Where a run is.

    epoch: the one under way, counted from 1. step: steps done in all. sums: of each loss over the
    steps of this epoch. best, best_epoch: sensitivity and epoch of the weights kept, -1 and 0
    before there are any.
    """

    epoch: int = 1
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best: float = -1.0
    best_epoch: int = 0


@dataclass(frozen=True)
class Run:
    """What must be the same for a run to go on: the configs and what the samples show."""

    detector: DetectorConfig
    training: TrainingConfig
    samples: Samples
    validation: Samples | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON keeps."""
        return {
            "detector": self.detector.to_dict(),
            "training": self.training.to_dict(),
            "samples": {
                "training": len(self.samples),
                "validation": len(self.validation or ()),
            },
            "annotations": {
                "training": self.samples.annotations,
                "validation": self.validation.annotations if self.validation else "",
            },
        }


def save_checkpoint(
    path: Path,
    detector: LesionDetector,
    optimizer: torch.optim.Optimizer,
    scaler: Mapping[str, Any],
    run: Run,
    position: Position,
    logs: Mapping[str, int],
) -> None:
    """Write all that a run is at between two steps; what was at ``path`` goes to :data:`PREVIOUS`.

    ``scaler`` is the state of the gradient scaler, ``logs`` the sizes of what is written so far.
    Raises FloatingPointError, and leaves the last one as it was, if a weight is not finite.
    """
    tensors = {
        f"{_OPTIMIZER}{index}.{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    tensors[_RANDOM + "torch"] = torch.get_rng_state()
    if next(detector.parameters()).is_cuda:
        tensors[_RANDOM + "cuda"] = torch.cuda.get_rng_state()
    kind, words, *rest = np.random.get_state()  # noqa: NPY002
    state = {
        "run": run.to_dict(),
        "position": asdict(position),
        "logs": dict(logs),
        "scaler": dict(scaler),
        "random": {"python": random.getstate(), "numpy": [kind, words.tolist(), *rest]},
    }
    text = json.dumps(state)
    metadata = {"training": text, "sha256": _digest(text, detector.state_dict(), tensors)}
    with keep_former(path, path.with_name(PREVIOUS)):
        save_detector(detector, path, metadata, tensors)


@dataclass(frozen=True)
class Checkpoint:
    """What :func:`load_checkpoint` has read.

    damage: why it is the one before the last, if it is.
    """

    path: Path
    weights: dict[str, Tensor]
    tensors: dict[str, Tensor]
    run: dict[str, Any]
    position: Position
    logs: dict[str, int]
    scaler: dict[str, Any]
    random: dict[str, Any]
    damage: str = ""

    def check(self, run: Run) -> None:
        """Raise InputError, naming the key, unless it is a checkpoint of ``run``."""
        if found := different_key(self.run, run.to_dict()):
            key, kept, given = found
            if key in _ANNOTATIONS:
                raise InputError(
                    f"{self.path}: the annotations of the {_ANNOTATIONS[key]} samples (file names, "
                    "boxes, splits, slices) are not those that the run began with; resume it with "
                    "those, or start another run"
                )
            raise InputError(
                f"{self.path}: its run has {key}={kept}, not {given}; resume it with the same, or "
                "start another run"
            )

    def restore(self, detector: LesionDetector, optimizer: torch.optim.Optimizer) -> None:
        """Put weights, the state of the optimizer and that of the random generators back."""
        detector.load_state_dict(self.weights)
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in self.tensors.items():
            if name.startswith(_OPTIMIZER):
                index, key = name.removeprefix(_OPTIMIZER).split(".")
                state.setdefault(int(index), {})[key] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        version, words, gauss = self.random["python"]
        random.setstate((version, tuple(words), gauss))
        np.random.set_state(self.random["numpy"])  # noqa: NPY002
        torch.set_rng_state(self.tensors[_RANDOM + "torch"])
        if next(detector.parameters()).is_cuda and _RANDOM + "cuda" in self.tensors:
            torch.cuda.set_rng_state(self.tensors[_RANDOM + "cuda"])


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what :func:`save_checkpoint` has written.

    Raises InputError if it is damaged, or weights without the state of a training.
    """
    try:
        weights = load_detector(path).state_dict()
        tensors, metadata = load_beside(path)
    except InputError as error:  # whose remedies are those for weights
        raise InputError(f"{str(error).rpartition('; ')[0]}; start another run") from None
    try:
        text = metadata["training"]
        state = json.loads(text)
        is_whole = metadata["sha256"] == _digest(text, weights, tensors)
        checkpoint = Checkpoint(
            path=path,
            weights=weights,
            tensors=tensors,
            position=Position(**state.pop("position")),
            **state,
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: holds no state of a training of this version ({error}); start another run"
        ) from None
    if not is_whole:
        raise InputError(f"{path}: damaged (not the content that was written); start another run")
    return checkpoint


def last_checkpoint(folder: Path) -> Checkpoint | None:
    """The last checkpoint of a run, or the one before it if that is damaged; None without any.

    Raises InputError if neither can be read.
    """
    path, previous = folder / CHECKPOINT, folder / PREVIOUS
    if not path.exists():
        return None
    try:
        return load_checkpoint(path)
    except InputError as error:
        damage = error
    try:
        return replace(load_checkpoint(previous), damage=str(damage).rpartition("; ")[0])
    except InputError:
        raise damage from None


def _digest(state: str, weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of a checkpoint's content, in hexadecimal digits."""
    digest = hashlib.sha256(state.encode())
    for group in (weights, tensors):
        for name, value in sorted(group.items()):
            value = value.detach().cpu().contiguous()
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
