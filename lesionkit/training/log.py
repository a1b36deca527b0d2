"""What a run tells while it goes: ``metrics.jsonl`` and TensorBoard events.

Both only grow. A checkpoint keeps their sizes, and a run that is resumed cuts them back to those,
so that no line is there twice or missing.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"
EVENTS = "tensorboard"


class RunLog:
    """The logs in folder ``out``; ``sizes`` are those of the files that a resumed run goes on with.

    Raises ModuleNotFoundError if TensorBoard is wanted but not installed.
    """

    def __init__(self, out: Path, tensorboard: bool, sizes: Mapping[str, int]) -> None:
        self._out = out
        self._events = None
        self._writer = _writer_class() if tensorboard else None
        _cut_back(out, sizes)
        self._metrics = open(out / METRICS, "a", encoding="utf-8")  # noqa: SIM115 (until close)

    def step(self, step: int, losses: Mapping[str, float], rate: float) -> None:
        """After each step."""
        self._scalars(step, {"loss": sum(losses.values()), **losses, "learning_rate": rate})

    def epoch(self, line: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl; its "validation_sensitivity", if any, is an event too."""
        self._metrics.write(json.dumps(line) + "\n")
        if "validation_sensitivity" in line:
            self._scalars(line["step"], {"sensitivity": line["validation_sensitivity"]}, "validate")

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, all written out: its path relative to the folder, its size."""
        self._metrics.flush()
        os.fsync(self._metrics.fileno())
        if self._events:
            self._events.flush()
        return {name: (self._out / name).stat().st_size for name in _names(self._out)}

    def close(self) -> None:
        self._metrics.close()
        if self._events:
            self._events.close()

    def _scalars(self, step: int, values: Mapping[str, float], group: str = "train") -> None:
        if self._writer is None:
            return
        if self._events is None:  # not before there is something to say
            self._events = self._writer(self._out / EVENTS)
        for name, value in values.items():
            self._events.add_scalar(f"{group}/{name}", value, step)


def _writer_class() -> type:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter


def _names(out: Path) -> list[str]:
    """The files of the logs, relative to ``out``."""
    events = sorted(path.name for path in (out / EVENTS).glob("events.out.tfevents.*"))
    return [METRICS, *(f"{EVENTS}/{name}" for name in events)]


def _cut_back(out: Path, sizes: Mapping[str, int]) -> None:
    for name in _names(out):
        path = out / name
        if name in sizes:
            os.truncate(path, min(sizes[name], path.stat().st_size))
        else:
            path.unlink(missing_ok=True)
