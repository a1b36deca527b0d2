"""What is random in a training run, each a function of the seed and of where the run is.

Nothing depends on what was drawn before, so that a run goes on after a stop, and over any number
of ranks, as it would have without.
"""

import random

import numpy as np
import torch

_ROIS, _ORDER = 1, 2  # streams beside that of the augmentation


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch, indices of ``count`` samples; what is left over is dropped."""
    order = np.random.default_rng((seed, epoch, 0, _ORDER)).permutation(count).tolist()
    ends = range(batch_size, count + 1, batch_size)
    return [order[end - batch_size : end] for end in ends]


def rank_batches(batches: list[list[int]], rank: int, ranks: int) -> list[list[int]]:
    """One rank's part of each batch; their sizes must be multiples of ``ranks``."""
    share = len(batches[0]) // ranks if batches else 0
    return [batch[rank * share : (rank + 1) * share] for batch in batches]


def sampling_seed(seed: int, epoch: int, index: int) -> int:
    """Of the choice of anchors and rois of sample ``index``."""
    words = np.random.SeedSequence((seed, epoch, index, _ROIS)).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def seed_everything(seed: int) -> None:
    """Seed every global generator."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (users' own code may draw from it)
    torch.manual_seed(seed)
