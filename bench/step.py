"""One training step, its time split by part: ``python -m bench.step`` (on a GPU if there is one).

The parts are the model's own modules, run one after the other with autograd cut between them, so
that each part's backward can be timed alone. The same step as one call stands beside their sum.
Writes ``bench/results/step_<device>.md`` and ``.json``.
"""

import argparse
import json
import resource
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from bench.measure import Clock, machine, reuse_memory
from lesionkit.data import DeepLesion, Preprocessing, prepare_key_slice, synthesize
from lesionkit.files import atomic_write
from lesionkit.models import PRESETS, LesionDetector
from lesionkit.models.boxes import to_half_open
from lesionkit.training import TRAINING_PRESETS
from lesionkit.training.step import make_optimizer

RESULTS = Path(__file__).parent / "results"
PRESET, IMAGES, SIDE, BATCH = "3dce_cs_att", 5, 512, 2
LESIONS = ((150.0, 180.0, 189.0, 214.0), (330.0, 250.0, 359.0, 284.0))  # boxes of a sample
DATA, WHOLE = "data: one batch prepared by one process", "the same step as one call"
Lap = Callable[[str], None]


def train_step(
    model: LesionDetector,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    truth: list[Tensor],
    clip: float,
    lap: Lap,
) -> None:
    """`whole_step`, part by part; ``lap`` is called with the name of each when it is done."""
    truth = [to_half_open(boxes) for boxes in truth]
    sizes, scales = [tuple(images.shape[-2:])] * len(images), [1.0] * len(images)
    features = model.backbone(images.flatten(0, 1)).unflatten(0, images.shape[:2])
    raw = _cut(features)
    lap("backbone, forward")
    attended = model.attention(raw)
    to_rpn, to_head = _cut(attended), _cut(attended)
    lap("attention, forward")
    logits, deltas = model.rpn(to_rpn[:, images.shape[1] // 2])
    lap("RPN, forward")
    rpn_loss = sum(model.rpn.losses(logits, deltas, sizes, truth))
    lap("RPN, losses")
    proposals = model.rpn.propose(logits, deltas, sizes, scales)
    lap("RPN, proposals")
    rois, labels, targets = model.head.sample_rois(proposals, truth)
    lap("head, sampling")
    outputs = model.head(to_head, rois)
    lap("head, forward")
    head_loss = sum(model.head.losses(*outputs, labels, targets, len(images)))
    lap("head, losses")
    optimizer.zero_grad()
    head_loss.backward()
    lap("head, backward")
    rpn_loss.backward()
    lap("RPN, backward")
    attended.backward(to_rpn.grad + to_head.grad)
    lap("attention, backward")
    features.backward(raw.grad)
    lap("backbone, backward")
    torch.nn.utils.clip_grad_value_(model.parameters(), clip)
    optimizer.step()
    lap("optimizer")


def _cut(x: Tensor) -> Tensor:
    return x.detach().requires_grad_()


def whole_step(
    model: LesionDetector,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    truth: list[Tensor],
    clip: float,
) -> None:
    losses = model(images, [{"boxes": boxes} for boxes in truth])
    optimizer.zero_grad()
    sum(losses.values()).backward()
    torch.nn.utils.clip_grad_value_(model.parameters(), clip)
    optimizer.step()


def measure(model: LesionDetector, side: int, repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds of each part and of the whole step, ``repeats`` of each, interleaved."""
    config = TRAINING_PRESETS[PRESET]
    model = model.to(device).train()
    optimizer = make_optimizer(model, config)
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, model.config.num_images, 3, side, side)
    images = (255 * torch.rand(shape, generator=generator) - 50).to(device)
    truth = [torch.tensor(LESIONS, device=device) * side / SIDE for _ in range(BATCH)]
    arguments = (model, optimizer, images, truth, config.gradient_clip)
    times: dict[str, list[float]] = {}
    for number in range(repeats + 1):  # the first warms up
        parts = Clock(device)
        train_step(*arguments, parts.lap)
        if number:
            whole = Clock(device)
            whole_step(*arguments)
            whole.lap(WHOLE)
            for name, seconds in {**parts.seconds(), **whole.seconds()}.items():
                times.setdefault(name, []).append(seconds)
    return times


def measure_data(folder: Path, preprocessing: Preprocessing, repeats: int) -> list[float]:
    """Seconds to read and prepare the samples of a batch from 512 x 512 slices on disk."""
    synthesize(folder, patients=3, image_size=512, workers=1)
    dataset = DeepLesion(folder)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for record in dataset[:BATCH]:
            prepare_key_slice(dataset, record, preprocessing)
        times.append(time.perf_counter() - start)
    return times[1:]


def table(times: dict[str, list[float]]) -> str:
    """A line per part: its median and its share of the sum of the step's parts."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    data, whole = medians.pop(DATA), medians.pop(WHOLE)
    total = sum(medians.values())
    lines = ["| part | ms | share |", "|---|---:|---:|"]
    lines += [
        f"| {name} | {1e3 * value:.1f} | {100 * value / total:.1f} % |"
        for name, value in medians.items()
    ]
    lines += [
        f"| **sum of the parts** | {1e3 * total:.1f} | 100 % |",
        f"| {WHOLE} | {1e3 * whole:.1f} | {100 * whole / total:.1f} % |",
        f"| {DATA} | {1e3 * data:.1f} | {100 * data / total:.1f} % |",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20 if torch.cuda.is_available() else 2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    config = PRESETS[PRESET]
    config = replace(config, preprocessing=replace(config.preprocessing, num_images=IMAGES))
    torch.manual_seed(0)
    model = LesionDetector(config)
    with tempfile.TemporaryDirectory() as folder:
        data = measure_data(Path(folder), config.preprocessing, arguments.repeats)
    times = measure(model, SIDE, arguments.repeats, arguments.device) | {DATA: data}
    if arguments.device == "cpu":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    else:
        peak = torch.cuda.max_memory_allocated() / 2**30
    command = shlex.join(["python", "-m", "bench.step", *sys.argv[1:]])
    facts = {"command": command, **machine(arguments.device), "threads": torch.get_num_threads()}
    facts["peak_memory_gib"] = round(peak, 1)
    title = (
        f"# One training step: {PRESET}, M = {IMAGES}, {SIDE} x {SIDE}, batch {BATCH}, float32\n\n"
        f"Random weights and pixels; medians of {arguments.repeats} after a warm-up. `{command}`\n"
        f"{'; '.join(f'{name} {value}' for name, value in facts.items() if name != 'command')}\n\n"
    )
    report = title + table(times)
    name = f"step_{arguments.device.partition(':')[0]}"
    arguments.out.mkdir(parents=True, exist_ok=True)
    with atomic_write(arguments.out / f"{name}.md") as path:
        path.write_text(report)
    with atomic_write(arguments.out / f"{name}.json") as path:
        path.write_text(json.dumps({**facts, "seconds": times}, indent=1) + "\n")
    print(report)


if __name__ == "__main__":
    reuse_memory()
    main()
