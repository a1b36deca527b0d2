"""Small detectors and random scans for the tests of the model."""

from dataclasses import replace

import torch

from lesionkit.models import PRESETS, LesionDetector

# A small network with the sampling and loss weights of 3DCE, which the tests count by hand.
TINY = replace(
    PRESETS["tiny"], rpn_batch=32, roi_batch=32, roi_positive_fraction=0.25, box_loss_weight=10.0
)


def detector(config=TINY, seed=0):
    torch.manual_seed(seed)
    return LesionDetector(config)


def scan(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 40


def boxes(*rows):
    return {"boxes": torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)}


def step(model, images, targets, seed=1):
    torch.manual_seed(seed)
    losses = model.train()(images, targets)
    model.zero_grad()
    sum(losses.values()).backward()
    return losses
