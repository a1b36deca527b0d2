"""Streaming over a scan against sample by sample: ``python -m bench.streaming``

A detector with random weights searches a synthetic scan twice: image by image as ``lesionkit
detect`` does, and with a sample of M images for each position. Both see the same pixels, images of
256 x 256, and their boxes are compared. With few cores sample by sample takes long, so it may be
timed on some of the positions (``--samples``) and is then reckoned for all: each is the same work.
Writes ``bench/results/streaming_<device>.md``.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bench.measure import machine
from lesionkit.data import CTVolume, Preprocessing, prepare_sample
from lesionkit.data.slice_grid import SliceGrid
from lesionkit.files import atomic_write
from lesionkit.inference import detect_sample
from lesionkit.inference.streaming import detect_grid
from lesionkit.models import PRESETS, LesionDetector

RESULTS = Path(__file__).parent / "results"
PRESET, IMAGES, SIDE, POSITIONS, TARGET = "3dce_cs_att", 5, 256, 40, 0.3


def make_grid(positions: int) -> SliceGrid:
    """Noise within a body, on slices 2 mm apart that are not cut or resized."""
    noise = np.random.default_rng(0).normal(0, 150, (positions, SIDE // 8, SIDE // 8))
    hu = noise.repeat(8, 1).repeat(8, 2).astype(np.int16)
    preprocessing = Preprocessing(num_images=IMAGES, crop=False, max_size=SIDE)
    spacing = (preprocessing.pixel_spacing, preprocessing.pixel_spacing, 2.0)
    volume = CTVolume(hu, spacing, (0.0, 0.0, 0.0), np.diag([1.0, 1.0, -1.0]), "noise")
    return SliceGrid(volume, preprocessing)


def make_model(preprocessing: Preprocessing, device: str) -> LesionDetector:
    torch.manual_seed(0)
    config = replace(PRESETS[PRESET], preprocessing=preprocessing, backbone_weights=None)
    return LesionDetector(config).eval().to(device)


def one_by_one(model: LesionDetector, grid: SliceGrid, position: int) -> dict[str, np.ndarray]:
    images, transform = prepare_sample(
        grid.hu, position, grid.volume.spacing[0], 2.0, grid.preprocessing,
        first=0, last=len(grid) - 1, crop=grid.crop,
    )  # fmt: skip
    assert images.shape == (IMAGES, 3, SIDE, SIDE)
    return detect_sample(model, images, transform)


def run(device: str, positions: int, samples: int) -> dict[str, object]:
    grid = make_grid(positions)
    model = make_model(grid.preprocessing, device)
    images = []
    model.backbone.register_forward_hook(lambda *call: images.append(len(call[1][0])))
    one_by_one(model, grid, 0)  # warm

    chosen = set(np.linspace(0, positions - 1, samples).round().astype(int).tolist())
    stream = detect_grid(model, grid, range(positions))
    streaming, by_sample = [], []
    computed = boxes = scores = 0
    for position in range(positions):  # by turns, so that a busy machine slows both alike
        images.clear()
        seconds, (_, found) = timed(lambda: next(stream))
        streaming.append(seconds)
        computed += sum(images)
        if position not in chosen:
            continue
        seconds, alone = timed(lambda position=position: one_by_one(model, grid, position))
        by_sample.append(seconds)
        assert len(alone["scores"]) == len(found["scores"]) > 0
        boxes = max(boxes, float(np.abs(alone["boxes"] - found["boxes"]).max()))
        scores = max(scores, float(np.abs(alone["scores"] - found["scores"]).max()))
        print(f"position {position}: {seconds[0]:.2f} s", file=sys.stderr, flush=True)
    wall, cpu = np.sum(streaming, 0)
    sample_wall, sample_cpu = np.mean(by_sample, 0) * positions
    return {
        "sample by sample, s": float(sample_wall),
        "streaming, s": float(wall),
        "ratio": float(wall / sample_wall),
        "ratio of processor time": float(cpu / sample_cpu),
        "images through the backbone": computed,
        "of sample by sample": IMAGES * positions,
        "largest difference of boxes, pixels": boxes,
        "largest difference of scores": scores,
    }


def timed(function: Callable[[], object]) -> tuple[tuple[float, float], object]:
    """Seconds and processor seconds, and what the function gives."""
    start = time.perf_counter(), time.process_time()
    result = function()
    return (time.perf_counter() - start[0], time.process_time() - start[1]), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--positions", type=int, default=POSITIONS)
    parser.add_argument("--samples", type=int, default=POSITIONS, help="timed sample by sample")
    given = parser.parse_args()
    figures = run(given.device, given.positions, min(given.samples, given.positions))
    lines = [
        "# Streaming over a scan against sample by sample",
        "",
        f"`python -m bench.streaming {shlex.join(sys.argv[1:])}`".replace(" `", "`"),
        "",
        *(f"- {name}: {value}" for name, value in machine(given.device).items()),
        f"- threads: {torch.get_num_threads()}",
        f"- detector: {PRESET}, M = {IMAGES}, random weights, images of {SIDE} x {SIDE}",
        f"- positions: {given.positions}, 2 mm apart; timed sample by sample on "
        f"{min(given.samples, given.positions)} of them, by turns with streaming",
        "",
        "| figure | value |",
        "|---|---|",
        *(f"| {name} | {_text(value)} |" for name, value in figures.items()),
        "",
        f"The ratio is to be at most {TARGET}. Both times go from Hounsfield units to boxes.",
    ]
    with atomic_write(RESULTS / f"streaming_{given.device.partition(':')[0]}.md") as path:
        path.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    sys.exit(figures["ratio"] > TARGET)


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
