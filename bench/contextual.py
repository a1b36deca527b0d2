"""Contextual attention on the CPU against eager and torch.compile: python -m bench.contextual"""

import torch

from bench.attention import compare


def collapsed(x, logits):
    return x * torch.exp((logits - logits.amax(1, keepdim=True)) / 2.0)


if __name__ == "__main__":
    compare("contextual", collapsed)
