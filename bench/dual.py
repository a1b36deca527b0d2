"""Dual attention on the CPU against eager and torch.compile: python -m bench.dual"""

import torch

from bench.attention import compare


def collapsed(x, c, s):
    contextual = torch.exp((c - c.amax(1, keepdim=True)) / 2.0)
    return x * contextual * torch.exp((s - s.amax((3, 4), keepdim=True)) / 3.0)


if __name__ == "__main__":
    compare("dual", collapsed, num_logits=2)
