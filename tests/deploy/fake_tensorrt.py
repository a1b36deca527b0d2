"""A TensorRT runtime and CUDA streams without a GPU: just what ``Engine`` asks of them.

The fake engine computes, per sample, sums and counts of ``images`` at the addresses that it is
given, or what a ``network`` such as ``DetectorGraph`` makes of them. Launches and waits are noted
in ``events``. No fake has a method that the real ones lack, see test_engine.py.
"""

import ctypes
from contextlib import contextmanager, nullcontext
from enum import Enum
from types import ModuleType, SimpleNamespace

import numpy as np
import torch

from lesionkit.deploy import engine as module

ROWS = 4
DataType = Enum("DataType", "FLOAT HALF INT32 FP8")
TensorIOMode = Enum("TensorIOMode", "NONE INPUT OUTPUT")


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING = range(3)

    def __init__(self):
        pass


def array(address, shape, dtype):
    """The memory at an address, as the GPU would see it."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)


class ExecutionContext:
    def __init__(self, engine, config=None):
        self.engine, self.config, self.shape, self.addresses = engine, config, None, {}

    def set_input_shape(self, name, shape):
        self.shape = tuple(shape)
        return name == "images" and self.engine.trt.refuses != "set_input_shape"

    def set_tensor_address(self, name, memory):
        self.addresses[name] = memory
        # CUDA's allocations begin at multiples of 256, those of the CPU at multiples of 64.
        return name in self.engine.tensors and memory % 64 == 0

    def get_tensor_shape(self, name):
        return [self.shape[0], *self.engine.tensors[name][2][1:]]

    def execute_async_v3(self, stream_handle):
        trt = self.engine.trt
        trt.events.append(("launch", stream_handle))
        if trt.refuses == "execute_async_v3":
            trt.log.log(ILogger.ERROR, "no memory\n left")
            return False
        if trt.recording is None:
            self.compute()
        else:
            trt.recording.launches.append((self, dict(self.addresses), self.shape))
        return True

    def compute(self):
        kind = np.float16 if self.engine.half else np.float32
        images = array(self.addresses["images"], self.shape, kind).astype(np.float32)
        boxes, scores, counts = (
            array(
                self.addresses[name],
                self.get_tensor_shape(name),
                np.int32 if name == "count" else np.float32,
            )
            for name in ("boxes", "scores", "count")
        )
        if self.engine.network is not None:
            with torch.no_grad():
                found = self.engine.network(torch.from_numpy(images))
            boxes[:], scores[:], counts[:] = (tensor.numpy() for tensor in found)
            return
        boxes[:] = images.reshape(len(images), -1).sum(1)[:, None, None]
        scores[:] = [0.9, 0.8, 0.7, 0]
        numbers = 1 + np.arange(len(images)) % 3
        counts[:] = np.where(np.isfinite(boxes[:, 0, 0]), numbers, -1)


class CudaEngine:
    def __init__(
        self,
        trt,
        half=False,
        tensors=("images", "boxes", "scores", "count"),
        scores="FLOAT",
        network=None,
    ):
        self.trt, self.half, self.network = trt, half, network
        shape, rows = (3, 3, 8, 6), ROWS
        if network is not None:
            config = network.model.config
            shape, rows = (config.num_images, 3, *network.size), config.rpn_post_nms[1]
        known = {
            "images": (TensorIOMode.INPUT, "HALF" if half else "FLOAT", (-1, *shape)),
            "boxes": (TensorIOMode.OUTPUT, "FLOAT", (-1, rows, 4)),
            "scores": (TensorIOMode.OUTPUT, scores, (-1, rows)),
            "count": (TensorIOMode.OUTPUT, "INT32", (-1,)),
        }
        self.tensors = {name: known[name] for name in tensors}
        self.contexts = []

    @property
    def num_io_tensors(self):
        return len(self.tensors)

    def get_tensor_name(self, index):
        return list(self.tensors)[index]

    def get_tensor_mode(self, name):
        return self.tensors[name][0]

    def get_tensor_dtype(self, name):
        return DataType[self.tensors[name][1]]

    def get_tensor_profile_shape(self, name, profile_index):
        return [[size, *self.tensors[name][2][1:]] for size in (1, 2, 3)]

    def create_execution_context(self, config=None):
        self.contexts.append(ExecutionContext(self, config))
        return self.contexts[-1]

    def create_runtime_config(self):
        return SimpleNamespace(cuda_graph_strategy=None)


def runtime(name="tensorrt", **engine):
    """A runtime module whose plans are a :class:`CudaEngine`; with ``answer``, what it gives."""
    trt = ModuleType(name)
    answer = engine.pop("answer", "engine")
    trt.__version__ = "10.1"
    trt.events, trt.recording, trt.refuses, trt.log = [], None, None, None
    trt.ILogger, trt.DataType, trt.TensorIOMode = ILogger, DataType, TensorIOMode
    trt.engine = CudaEngine(trt, **engine) if answer == "engine" else None

    class Runtime:
        def __init__(self, log):
            trt.log = log

        def deserialize_cuda_engine(self, serialized):
            if trt.engine is None:
                trt.log.log(ILogger.ERROR, answer)
            return trt.engine

    trt.Runtime = Runtime
    if name != "tensorrt_lean":
        trt.Builder = object
    return trt


class Stream:
    number = 0

    def __init__(self, trt, handle=None):
        Stream.number += 1
        self.trt, self.cuda_stream = trt, Stream.number if handle is None else handle

    def wait_event(self, event):
        self.trt.events.append(("wait for event", self.cuda_stream))

    def wait_stream(self, stream):
        self.trt.events.append(("wait", self.cuda_stream, stream.cuda_stream))

    def synchronize(self):
        self.trt.events.append(("synchronize", self.cuda_stream))


class Graph:
    def __init__(self):
        self.launches = []

    def replay(self):
        for context, addresses, shape in self.launches:
            assert (context.addresses, context.shape) == (addresses, shape), "bound anew"
            context.compute()


def use(monkeypatch, trt, current=0):
    """Make ``Engine`` find ``trt`` and a CUDA of fakes; ``current`` is the current stream."""

    @contextmanager
    def record(graph, stream):
        if trt.refuses == "recording":
            raise RuntimeError("operation not permitted when stream is capturing")
        trt.recording = graph
        yield
        trt.recording = None

    default = Stream(trt, 0)
    now = default if current == 0 else Stream(trt, current)
    noted = SimpleNamespace(record=lambda stream: trt.events.append(("ran", stream.cuda_stream)))
    cuda = {
        "device": lambda device: nullcontext(),
        "current_stream": lambda: now,
        "default_stream": lambda: default,
        "is_current_stream_capturing": lambda: trt.refuses == "capture",
        "Stream": lambda: Stream(trt),
        "Event": lambda: noted,
        "CUDAGraph": Graph,
        "graph": record,
    }
    monkeypatch.setattr(module, "load_runtime", lambda name: trt)
    monkeypatch.setattr(module, "_cuda_device", lambda device: torch.device("cpu"))
    monkeypatch.setattr(module, "capability_of", lambda device: 90)
    for name, fake in cuda.items():
        monkeypatch.setattr(torch.cuda, name, fake)
