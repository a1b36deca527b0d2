"""Spatial attention on the CPU against eager and torch.compile: python -m bench.spatial"""

import torch

from bench.attention import compare


def collapsed(x, logits):
    return x * torch.exp((logits - logits.amax((3, 4), keepdim=True)) / 3.0)


if __name__ == "__main__":
    compare("spatial", collapsed)
