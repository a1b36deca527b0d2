"""Timing: medians of interleaved runs, parts of a whole, bytes per second beside an addition."""

import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import torch

from bench.gpu.machine import commit
from lesionkit.version import __version__

# glibc hands large blocks back to the kernel, and the page faults of fresh outputs (15-20 ms for
# 42 MB) would hide the kernels. With these, freed memory is used again.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
}


def reuse_memory() -> None:
    """Restart this process with the allocator settings above; glibc reads them only at start."""
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.environ.update(ALLOCATOR)
        os.execv(sys.executable, [*sys.orig_argv])


def medians(functions: dict[str, Callable], repeats: int = 15) -> dict[str, float]:
    """Median seconds of each; interleaved, so that a busy machine slows all of them alike."""
    for function in functions.values():
        for _ in range(3):
            function()
    times = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(samples) for name, samples in times.items()}


def report(title: str, ours: str, times: dict[str, float], bytes_moved: dict[str, int]) -> None:
    """Print a table: time, bytes per second where the bytes are known, and ratio to ours."""
    print(f"\n{title}")
    peers = {name: value for name, value in times.items() if name not in bytes_moved}
    for name, seconds in times.items():
        rate = f"{bytes_moved[name] / seconds / 1e9:6.1f} GB/s" if name in bytes_moved else " " * 11
        print(f"  {name:<34} {seconds * 1e3:8.2f} ms  {rate}  {seconds / times[ours]:5.2f} x")
    best = min(peers, key=peers.get)
    print(f"  -> {peers[best] / times[ours]:.2f} times faster than the best peer ({best})")


def header() -> None:
    """Print what a figure must name: processor, threads and versions."""
    print(f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}, float32")


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "?")


def machine(device: str) -> dict[str, str | int]:
    """What a result file must name: device, versions, date and commit."""
    return {
        "device": processor() if device == "cpu" else torch.cuda.get_device_name(device),
        "cores": len(os.sched_getaffinity(0)),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "lesionkit": __version__,
        "commit": commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


class Clock:
    """Seconds of each part, by CUDA events on a GPU."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.marks = [("", self._now())]

    def lap(self, name: str) -> None:
        self.marks.append((name, self._now()))

    def seconds(self) -> dict[str, float]:
        if self.device != "cpu":
            torch.cuda.synchronize()
        times = [mark for _, mark in self.marks]
        spans = [
            b - a if self.device == "cpu" else a.elapsed_time(b) / 1e3 for a, b in pairwise(times)
        ]
        return dict(zip([name for name, _ in self.marks[1:]], spans, strict=True))

    def _now(self):
        if self.device == "cpu":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
