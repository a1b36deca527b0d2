"""Timing on a GPU: kernels with a cold L2 cache, calls from Python, and peak memory.

Kernels are timed inside one CUDA graph that runs the same call over several sets of inputs, each
with outputs of its own. The sets together are several times the L2 cache, so that every call finds
it cold, and a graph leaves out what Python and the launches cost.

Without a GPU the same code runs once on the CPU, to be tested; such figures mean nothing.
"""

import statistics
import subprocess
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Call = Callable[..., object]
CACHES = 4  # the sets together are this many times the L2 cache
REPEATS = 7


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe() -> dict[str, object]:
    """What a figure must name: device, driver, versions."""
    facts = {"torch": torch.__version__, "triton": _version("triton"), "cupy": _version("cupy")}
    if not torch.cuda.is_available():
        return {"device": "cpu (dry run)"} | facts
    properties = torch.cuda.get_device_properties(0)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "device": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "l2_cache_bytes": properties.L2_cache_size,
        "driver": driver or "unknown",
        "cuda": torch.version.cuda,
    } | facts


def _version(module: str) -> str | None:
    try:
        return __import__(module).__version__
    except ImportError:
        return None


def num_sets(bytes_of_a_set: int) -> int:
    """How many sets of inputs and outputs a cold measurement needs."""
    if not torch.cuda.is_available():
        return 1
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return min(64, max(2, -(-CACHES * cache // bytes_of_a_set)))


def cold_seconds(call: Call, sets: Sequence[tuple]) -> float:
    """Median seconds of one call, each on another of `sets`, in one captured graph."""
    if not torch.cuda.is_available():
        start = time.perf_counter()
        call(*sets[0])
        return time.perf_counter() - start
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compiles, loads, and fills the allocator
        for _ in range(3):
            call(*sets[0])
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        # Kept until the graph is done: memory used again at once would be written in the cache.
        results = [call(*inputs) for inputs in sets]
    graph.replay()
    seconds = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3 / len(sets))
    del results
    return statistics.median(seconds)


def copy_seconds(num_bytes: int) -> float:
    """Median seconds of copying `num_bytes` from one tensor to another, cold."""
    sets = [
        tuple(torch.empty(num_bytes, dtype=torch.uint8, device=device()) for _ in range(2))
        for _ in range(num_sets(2 * num_bytes))
    ]
    return cold_seconds(lambda source, target: target.copy_(source), sets)


def call_seconds(call: Call, inputs: tuple, calls: int = 300) -> float:
    """Median host seconds of a call: what Python and the launch cost while the GPU keeps up."""
    samples = []
    for _ in range(REPEATS if torch.cuda.is_available() else 1):
        for _ in range(20):
            call(*inputs)
        synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            call(*inputs)
        samples.append((time.perf_counter() - start) / calls)
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


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def total_bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
