"""Work shared among the processes of torch.distributed, and its results put together again.

In one process, all of this does nothing: the process does all the work.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch.distributed as dist

Result = TypeVar("Result")


@contextmanager
def joined_processes() -> Iterator[int]:
    """Join the processes that torchrun has started, for the block; yields the rank of this one, 0
    without torchrun.

    Only results travel between them, so they talk through gloo, whatever the device.
    """
    if dist.is_initialized() or not dist.is_torchelastic_launched():
        yield _rank_and_size()[0]
        return
    dist.init_process_group("gloo")
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()


def own_indices(count: int) -> range:
    """Which of ``count`` pieces of work are this process's: its rank and every world size on.

    The shares differ by one piece at most, and neighbours, which may be alike in size, are spread.
    """
    rank, size = _rank_and_size()
    return range(rank, count, size)


def gather(own: Sequence[Result], count: int) -> list[Result]:
    """Every process's results, in the order of the pieces, on every process.

    Args:
        own: this process's results, those of ``own_indices(count)`` in order; picklable, with
            nothing on a GPU.
        count: how many there are in all.

    Every process must call it. One that waits for another that has failed gets an error from
    torch.distributed.

    Raises ValueError if ``own`` is not as long as ``own_indices(count)``.
    """
    if len(own) != len(own_indices(count)):
        raise ValueError(f"own must hold {len(own_indices(count))} results, got {len(own)}")
    _, size = _rank_and_size()
    if size == 1:
        return list(own)
    parts: list = [None] * size
    dist.all_gather_object(parts, list(own))
    return [parts[index % size][index // size] for index in range(count)]


def _rank_and_size() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
