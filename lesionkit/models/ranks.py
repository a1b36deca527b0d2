"""One batch over all processes of a distributed training.

Where torch.distributed is initialised, a detector in training mode is one part of a batch whose
other parts are on the other ranks: losses are divided by the counts of all, and samples are padded
to the largest of all. So the mean of the ranks' gradients is the gradient of the whole batch.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def mean_over_ranks(count: int, device: torch.device) -> Tensor | int:
    """What a rank's sum is divided by: the mean of every rank's ``count``, their total >= 1."""
    if not is_distributed():
        return max(count, 1)
    total = torch.tensor(float(count), device=device)
    dist.all_reduce(total)
    return total.clamp(min=1) / dist.get_world_size()


def largest_over_ranks(size: tuple[int, int], device: torch.device) -> tuple[int, int]:
    """The largest height and the largest width of any rank's ``size``."""
    if not is_distributed():
        return size
    sides = torch.tensor(size, device=device)
    dist.all_reduce(sides, dist.ReduceOp.MAX)
    height, width = sides.tolist()
    return height, width


def is_distributed() -> bool:
    """Whether there are other ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
