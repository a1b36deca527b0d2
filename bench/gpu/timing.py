"""Timing on a GPU: kernels with a cold L2 cache, calls from Python, and peak memory.

Kernels are timed inside one CUDA graph that runs the same call over several sets of inputs. What a
call returns is kept, so that every call writes memory of its own; what it frees inside, the next
may use again. The sets together are several times the L2 cache, so that every call finds it cold,
and a graph leaves out what Python and the launches cost.

Without a GPU the same calls run once on the CPU, for a dry run; such figures mean nothing.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

Call = Callable[..., object]
CACHES = 4  # the sets together are this many times the L2 cache
LEAST_CALLS = 16  # in a graph, so that what its start costs hardly counts
WARM_UP = 0.03  # seconds of replays, for the clocks to rise after a compiler kept the device idle
AHEAD = 2_000_000  # cycles that the device waits while the host hands it what is timed: about 1 ms
REPEATS = 7
CALLS = 20  # in a row from Python: far fewer launches than the device's queue holds


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def num_sets(bytes_of_a_set: int) -> int:
    """How many sets of inputs and outputs a cold measurement needs."""
    if not torch.cuda.is_available():
        return 1
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return min(64, max(2, -(-CACHES * cache // bytes_of_a_set)))


def cold_seconds(call: Call, sets: Sequence[tuple]) -> float:
    """Median seconds of one call, each on another of `sets`, in one captured graph.

    A call that differentiates must run its forward itself: autograd works on the stream of the
    forward, and no stream but the captured one may take part in a capture.
    """
    if not torch.cuda.is_available():
        start = time.perf_counter()
        call(*sets[0])
        return time.perf_counter() - start
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # compiles, loads, and fills the allocator
        for _ in range(3):
            call(*sets[0])
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    in_turn = [sets[i % len(sets)] for i in range(max(len(sets), LEAST_CALLS))]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        results = [call(*inputs) for inputs in in_turn]
    warm = time.perf_counter() + WARM_UP
    while True:
        graph.replay()
        torch.cuda.synchronize()
        if time.perf_counter() >= warm:
            break
    seconds = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(AHEAD)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3 / len(in_turn))
    del results
    return statistics.median(seconds)


def copy_seconds(num_bytes: int) -> float:
    """Median seconds of copying `num_bytes` from one tensor to another, cold."""
    options = {"dtype": torch.uint8, "device": device()}
    sets = [
        (torch.randint(256, (num_bytes,), **options), torch.empty(num_bytes, **options))
        for _ in range(num_sets(2 * num_bytes))
    ]
    return cold_seconds(lambda source, target: target.copy_(source), sets)


def call_seconds(call: Call, inputs: tuple) -> float:
    """Median host seconds of a call: what Python and the launch cost while the GPU keeps up."""
    samples = []
    for _ in range(REPEATS if torch.cuda.is_available() else 1):
        for _ in range(5):
            call(*inputs)
        synchronize()
        start = time.perf_counter()
        for _ in range(CALLS):
            call(*inputs)
        samples.append((time.perf_counter() - start) / CALLS)
        synchronize()
    return statistics.median(samples)


def peak_bytes(call: Call, inputs: tuple) -> int:
    """The most memory that a call holds above its inputs, its results included; 0 without a GPU."""
    if not torch.cuda.is_available():
        return 0
    call(*inputs)
    synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call(*inputs)
    synchronize()
    return torch.cuda.max_memory_allocated() - before


def measured(
    row: dict,
    call: Call,
    sets: Sequence[tuple],
    context: Callable[[], AbstractContextManager] = nullcontext,
    moved: int | None = None,
    copy: float | None = None,
    peak: bool = False,
) -> dict:
    """`row` with what `call` costs within `context`, or with the error that it ended in.

    `moved` is how many bytes must move, `copy` the seconds of a copy that moves as many.
    """
    try:
        with context():
            seconds = cold_seconds(call, sets)
            row |= {
                "microseconds": seconds * 1e6,
                "call_microseconds": call_seconds(call, sets[0]) * 1e6,
            }
            if peak:
                row |= {"peak_bytes": peak_bytes(call, sets[0])}
    except Exception as error:  # one that cannot run must not end the measurement
        return row | {"error": described(error)}
    if moved is not None:
        row |= {"bytes": moved, "bytes_per_second": moved / seconds}
    if copy is not None:
        row |= {"fraction_of_copy": copy / seconds}
    return row


def described(error: Exception) -> str:
    """An error's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def alive() -> bool:
    """Whether the device still works; after some errors nothing does in this process."""
    try:
        synchronize()
    except RuntimeError:
        return False
    return True


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
