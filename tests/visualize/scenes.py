"""A small scan, a small detector, and the pages made of them."""

from dataclasses import replace

import numpy as np
import torch

from lesionkit.data import CTVolume
from lesionkit.models import PRESETS, LesionDetector

BOX = (20.0, 24.0, 35.0, 39.0)


def scan(slices=14, interval=2.0, side=64):
    """A body of water with a bright ball around slice 7, 2 mm a pixel, feet last."""
    z, y, x = np.mgrid[:slices, :side, :side]
    hu = np.full((slices, side, side), -1000, np.int16)
    hu[(x - side / 2) ** 2 + (y - side / 2) ** 2 < (0.45 * side) ** 2] = 0
    ball = ((x - 27.5) / 7) ** 2 + ((y - 31.5) / 7) ** 2 + ((z - 7) / 3) ** 2 < 1
    hu[ball] = 120
    direction = np.diag([1.0, 1.0, -1.0])
    return CTVolume(hu, (2.0, 2.0, interval), (0.0, 0.0, 0.0), direction, source="ball")


def detector(**changes):
    torch.manual_seed(1)
    model = LesionDetector(replace(PRESETS["tiny"], **changes)).eval()
    for layer in (model.attention, *model.attention.children()):
        if hasattr(layer, "phi"):  # weights that differ: the initial ones are near 1
            torch.nn.init.normal_(layer.phi.weight, std=0.3)
    return model
