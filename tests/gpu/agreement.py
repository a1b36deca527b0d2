"""How well an engine's detections and the model's agree, and what both are given."""

from typing import NamedTuple

import numpy as np
import torch

from lesionkit.data import CTVolume
from lesionkit.data.preprocess import prepare_volume_sample
from lesionkit.models import PRESETS, LesionDetector


class Tolerance(NamedTuple):
    """Of boxes in pixels and of scores; and the share of detections that may be one side's alone.

    A score that is rounded elsewhere can turn a choice among near equals: which anchors are
    proposals, which of two boxes suppresses the other.
    """

    pixels: float
    score: float
    share: float


def unmatched(found, expected, tolerance):
    """How many detections of either sample have no counterpart in the other."""
    apart = (found["boxes"][:, None] - expected["boxes"]).abs().amax(-1)
    differ = (found["scores"][:, None] - expected["scores"]).abs()
    same = (apart <= tolerance.pixels) & (differ <= tolerance.score)
    return int((~same.any(1)).sum() + (~same.any(0)).sum())


def assert_agree(found, expected, tolerance):
    """Of the detections of all samples: their counts, and box and score of each."""
    assert len(found) == len(expected)
    counts = [[len(sample["scores"]) for sample in samples] for samples in (found, expected)]
    total = sum(map(sum, counts))
    few = [max(2, tolerance.share * number) for number in counts[1]]
    for ours, right, limit in zip(*counts, few, strict=True):
        assert abs(ours - right) <= (limit if right else 0), f"counts {counts}"
    alone = sum(
        unmatched(ours, right, tolerance) for ours, right in zip(found, expected, strict=True)
    )
    assert alone <= tolerance.share * total, f"{alone} of {total} detections differ"
    for sample in found:
        assert (sample["scores"].diff() <= 0).all()


def scan_with_a_ball(seed):
    """Noisy tissue with one bright ball, samples of which give 64 x 64 pixels; and its box."""
    random = np.random.default_rng(seed)
    radius = random.uniform(4, 10)
    x, y = random.uniform(radius + 2, 62 - radius, 2)
    zs, ys, xs = np.ogrid[:9, :64, :64]
    hu = random.normal(40, 25, (9, 64, 64))
    hu[(xs - x) ** 2 + (ys - y) ** 2 + (4 * (zs - 4)) ** 2 <= radius**2] += 250
    volume = CTVolume(
        hu=hu.astype(np.int16),
        spacing=(2.0, 2.0, 4.0),
        origin=(0.0, 0.0, 0.0),
        direction=np.eye(3),
        source=f"ball {seed}",
    )
    return volume, np.array([[x - radius, y - radius, x + radius, y + radius]], np.float32)


def sample(seed, preprocessing=PRESETS["tiny"].preprocessing):
    """Images [3, 3, 64, 64] of a ball, and its box [1, 4]."""
    volume, box = scan_with_a_ball(seed)
    images, transform = prepare_volume_sample(volume, 4, preprocessing)
    return images, torch.from_numpy(transform.to_network(box).astype(np.float32))


def trained_detector(device, steps=120):
    """A tiny detector that finds balls, after some seconds."""
    torch.manual_seed(0)
    model = LesionDetector("tiny").to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    samples = [sample(seed) for seed in range(16)]
    for step in range(steps):
        images, boxes = zip(*(samples[(2 * step + i) % 16] for i in range(2)), strict=True)
        targets = [{"boxes": each.to(device)} for each in boxes]
        losses = model(torch.stack(images).to(device), targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    return model.eval()


def balls(batch, first=1000):
    """Images [batch, 3, 3, 64, 96] of balls that the detector was not trained on.

    Padded to the right as small images are: anchors in the padding score the same.
    """
    images = torch.stack([sample(first + seed)[0] for seed in range(batch)])
    return torch.nn.functional.pad(images, (0, 32))
