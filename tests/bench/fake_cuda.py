"""A stand-in for the parts of torch.cuda that measuring uses, on CPU tensors.

It runs what a device would run, and refuses what a device refuses: a capture without a warm-up on
its stream, waiting for the device inside of one, autograd through what was not captured.
"""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from bench.gpu import timing


class Stream:
    def __init__(self):
        self.used = False

    def wait_stream(self, other):
        assert isinstance(other, Stream)


class Graph:
    captured = False
    replays = 0

    def replay(self):
        assert self.captured
        self.replays += 1


class Event:
    clock = 0
    sleeps = timed = 0  # waits of the device, and how many of them stood before a timing

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        Event.clock += 1
        self.time = Event.clock
        self.slept = Event.sleeps

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        assert self.slept > Event.timed, "what starts on an idle device counts the host's work"
        Event.timed = self.slept
        return end.time - self.time  # a millisecond between any two


class FakeCuda:
    def __init__(self):
        self.default = self.current = Stream()
        self.capturing = None  # the number of the first autograd node of the capture
        self.graphs = []
        self.broken = False

    @contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        stream.used = True
        yield
        self.current = before

    @contextmanager
    def graph(self, graph, stream):
        assert self.capturing is None
        assert stream.used, "nothing was warmed up on the stream of the capture"
        self.capturing = next_node()
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current, self.capturing = before, None
        graph.captured = True
        self.graphs.append(graph)

    def sleep(self, cycles):
        assert self.capturing is None
        Event.sleeps += 1

    def synchronize(self):
        assert self.capturing is None, "cudaErrorStreamCaptureUnsupported"
        if self.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def grad(self, outputs, *arguments, **options):
        if self.capturing is not None:
            assert oldest_node(outputs.grad_fn) > self.capturing, "cudaErrorStreamCaptureImplicit"
        return GRAD(outputs, *arguments, **options)


GRAD = torch.autograd.grad


def next_node() -> int:
    with torch.inference_mode(False), torch.enable_grad():
        return (torch.zeros(1, requires_grad=True) * 1).grad_fn._sequence_nr()


def oldest_node(node: object) -> int:
    """The least number of the nodes that autograd would run; leaves' are run by nobody."""
    behind = [n for n, _ in node.next_functions if n and "AccumulateGrad" not in n.name()]
    return min([node._sequence_nr(), *map(oldest_node, behind)])


@pytest.fixture
def fake_cuda(monkeypatch) -> FakeCuda:
    fake = FakeCuda()
    properties = SimpleNamespace(L2_cache_size=1 << 12)
    for name, value in {
        "is_available": lambda: True,
        "get_device_properties": lambda _: properties,
        "Stream": Stream,
        "stream": fake.stream,
        "current_stream": lambda: fake.current,
        "synchronize": fake.synchronize,
        "CUDAGraph": Graph,
        "graph": fake.graph,
        "Event": Event,
        "_sleep": fake.sleep,
        "memory_allocated": lambda: 1000,
        "max_memory_allocated": lambda: 3000,
        "reset_peak_memory_stats": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.autograd, "grad", fake.grad)
    monkeypatch.setattr(timing, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(timing, "CALLS", 2)
    monkeypatch.setattr(timing, "REPEATS", 3)
    monkeypatch.setattr(timing, "LEAST_CALLS", 4)
    monkeypatch.setattr(timing, "WARM_UP", 0)
    return fake
