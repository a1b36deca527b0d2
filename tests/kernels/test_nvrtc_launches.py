"""The NVRTC route starts the very kernels that the CUDA library starts, with the same arguments."""

import sys
from importlib import import_module
from itertools import product
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from lesionkit.kernels.common import nvrtc

from tests.csrc import emulated
from tests.kernels import nvrtc_launches as cases

needs_compiler = pytest.mark.skipif(emulated.COMPILER is None, reason="no g++")


def fields(launch):
    """A launch as the emulator writes it."""
    numbers = (
        np.int64(value.data_ptr()) if isinstance(value, torch.Tensor) else value
        for value in launch.arguments
    )
    return [
        launch.expression,
        *map(str, launch.grid),
        str(launch.threads),
        str(launch.shared_bytes),
        *(number.tobytes().hex() for number in numbers),
    ]


def recorded(emulator):
    """The last launch of the CUDA library's launchers."""
    name, *rest = emulator.launches()[-1]
    return [name.removeprefix("void ").partition("(")[0].replace("::cpu::", "::device::"), *rest]


@needs_compiler
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("kernel", cases.ATTENTION)
def test_attention_as_the_library_does_it(kernel, offset):
    emulator = emulated.emulator()
    module = import_module(f"lesionkit.kernels.{kernel}.nvrtc")
    sizes_of = {
        "contextual": lambda b, m, d, h, w: (b, m, d * h * w),
        "spatial": lambda b, m, d, h, w: (b * m * d, h * w),
        "dual": lambda b, m, d, h, w: (b, m, d, h * w),
    }[kernel]
    temperatures = cases.temperatures_of(kernel)
    pairs = [(kind, kind) for kind in cases.TYPES] + [
        (torch.float32, torch.bfloat16),
        (torch.float16, torch.float32),
    ]
    emulator.only_record(True)
    try:
        for shape, types in product(cases.SHAPES, pairs):
            tensors = cases.attention_tensors(kernel, shape, *types, offset)
            for name, of_launch in zip(("forward", "backward"), tensors, strict=True):
                launch = getattr(module, f"{name}_launch")(*of_launch, *temperatures)
                arguments = *of_launch, *types, *sizes_of(*shape), *temperatures
                emulator.call(f"{kernel}_{name}", *arguments)
                assert fields(launch) == recorded(emulator), (shape, types)
    finally:
        emulator.only_record(False)


@needs_compiler
@pytest.mark.parametrize("convention", ["rfcn", "torchvision"])
def test_psroi_as_the_library_does_it(convention):
    emulator = emulated.emulator()
    module = import_module("lesionkit.kernels.psroi.nvrtc")
    number = ("rfcn", "torchvision").index(convention)
    emulator.only_record(True)
    try:
        for sizes, dtype, rois_type in product(
            cases.ROIS, cases.TYPES, (torch.float32, torch.float64)
        ):
            features, rois, pooled = cases.psroi_tensors(sizes, dtype, rois_type)
            for name, *tensors in (
                ("forward", features, rois, pooled),
                ("backward", pooled, rois, features),
            ):
                launch = getattr(module, f"{name}_launch")(*tensors, 0.1, convention)
                emulator.call(f"psroi_{name}", *tensors, dtype, rois_type, *sizes, 0.1, number)
                assert fields(launch) == recorded(emulator), (sizes, dtype, rois_type)
    finally:
        emulator.only_record(False)


@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 0.3, 2.0, 1e30, 1e300])
def test_constants_of_a_temperature_are_kept_finite(temperature):
    scale, inverse = nvrtc.exp2_scale(temperature), nvrtc.inverse(temperature)
    assert 2.0**-126 <= scale <= 2.0**127
    assert 0 <= inverse <= 2.0**127


def test_grids_of_more_blocks_than_a_row_has():
    assert nvrtc.folded(2**31 - 1) == (2**31 - 1, 1, 1)
    assert nvrtc.folded(2**31) == (2**31 - 1, 2, 1)


def test_a_source_holds_each_header_once_and_names_no_other():
    for kernel in ("contextual", "spatial", "dual", "psroi"):
        text = nvrtc.source(kernel)
        assert text.count("namespace lesionkit::device {") >= 1
        assert text.count("struct Pack {") == 1
        assert '#include "' not in text
        assert "#pragma once" not in text


def test_a_launch_goes_to_cupy_on_torchs_stream_and_device(monkeypatch):
    """With a CuPy that records: the order of arguments is CuPy 14's RawKernel.__call__."""
    calls = []

    class Kernel:
        def __call__(self, grid, block, args, *, shared_mem, stream):
            calls.append((grid, block, args, shared_mem, stream))

    class Module:
        def __init__(self, *, code, options, name_expressions):
            assert "lesionkit::contextual" in code
            self.names = name_expressions

        def get_function(self, name):
            assert (name,) == self.names
            return Kernel()

    class Device:
        def __init__(self, index):
            calls.append(index)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            return None

    fake = ModuleType("cupy")
    fake.RawModule = Module
    stream = SimpleNamespace(from_external=lambda stream: ("stream", *stream.__cuda_stream__()))
    fake.cuda = SimpleNamespace(Device=Device, Stream=stream)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=7))
    nvrtc._compiled.cache_clear()

    class OnDevice(torch.Tensor):
        device = torch.device("cuda", 1)

    tensor = torch.zeros(4).as_subclass(OnDevice)
    launch = nvrtc.Launch("contextual", "f<float>", (2, 1, 1), 64, (tensor, np.int32(5)), 96)
    nvrtc.run(launch)
    pointer = np.int64(tensor.data_ptr())
    assert calls == [1, ((2, 1, 1), (64, 1, 1), (pointer, np.int32(5)), 96, ("stream", 0, 7))]
    nvrtc._compiled.cache_clear()


def test_cpu_tensors_are_refused():
    module = import_module("lesionkit.kernels.contextual.nvrtc")
    x = torch.zeros(1, 3, 1, 2, 2)
    with pytest.raises((RuntimeError, ImportError), match=r"CUDA tensors|cupy"):
        module.forward(x, x, 2.0)
