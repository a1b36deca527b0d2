"""The TensorRT plugins and a harness that calls them as TensorRT does, without TensorRT."""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int32, c_int64, c_void_p
from pathlib import Path

import pytest
import torch
from torch import Tensor

import lesionkit
from tests.csrc.emulated import COMPILER, ROOT

LIBRARY = Path(lesionkit.__file__).parent / "liblesionkit_tensorrt.so"
HARNESS = Path(__file__).parent / "tensorrt"
TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 7}  # nvinfer1::DataType
INT32 = 3
LINEAR, HWC8 = 0, 2  # nvinfer1::TensorFormat
FIELD_TYPES = {float: 1, int: 5, str: 6}  # nvinfer1::PluginFieldType


def headers() -> Path | None:
    """TensorRT's, from the variables that setup.py takes."""
    for name, inside in (("TENSORRT_INCLUDE_DIR", "."), ("TENSORRT_ROOT", "include")):
        if os.environ.get(name):
            return Path(os.environ[name], inside)
    return None


needs_headers = pytest.mark.skipif(
    headers() is None or COMPILER is None,
    reason="needs g++ and TensorRT's headers: set TENSORRT_INCLUDE_DIR or TENSORRT_ROOT",
)
needs_library = pytest.mark.skipif(
    not LIBRARY.exists(),
    reason="liblesionkit_tensorrt.so is not built: no nvcc, or no TENSORRT_INCLUDE_DIR at the time",
)


class Dims(ctypes.Structure):
    _fields_ = [("count", c_int32), ("d", c_int64 * 8)]

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> "Dims":
        return cls(len(shape), (c_int64 * 8)(*shape))


class Desc(ctypes.Structure):
    _fields_ = [("dims", Dims), ("type", c_int32), ("format", c_int32), ("scale", c_float)]


class DynamicDesc(ctypes.Structure):
    _fields_ = [("desc", Desc), ("min", Dims), ("max", Dims), ("opt", Dims)]


class Field(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("data", c_void_p), ("type", c_int32), ("length", c_int32)]

    @classmethod
    def of(cls, name: str, value: object) -> "Field":
        """From a Python value, or from (type, bytes or None, length) as they are."""
        if isinstance(value, tuple):
            kind, data, length = value
        else:
            kind, length = FIELD_TYPES[type(value)], len(value) if isinstance(value, str) else 1
            to_c = {float: c_float, int: c_int32}.get(type(value))
            data = bytes(to_c(value)) if to_c else value.encode()
        memory = None if data is None else ctypes.create_string_buffer(data, len(data) or 1)
        field = cls(name.encode(), ctypes.cast(memory, c_void_p), kind, length)
        field.memory = memory
        return field

    def value(self) -> object:
        if self.type == FIELD_TYPES[str]:
            return ctypes.string_at(self.data, self.length).decode()
        to_c = {FIELD_TYPES[float]: c_float, FIELD_TYPES[int]: c_int32}[self.type]
        return to_c.from_address(self.data).value


class Fields(ctypes.Structure):
    _fields_ = [("count", c_int32), ("fields", POINTER(Field))]


def built_once(name: str, sources: list[Path], build: Callable[[Path], None]) -> Path:
    """A library in the temporary folder, built anew when a source has changed."""
    digest = hashlib.sha256(repr((COMPILER, str(headers()))).encode())
    for path in sources:
        digest.update(path.read_bytes())
    target = Path(tempfile.gettempdir(), f"lesionkit_{name}_{digest.hexdigest()[:20]}.so")
    if not target.exists():
        partial = target.with_suffix(f".{os.getpid()}")
        build(partial)
        partial.replace(target)
    return target


def compile_cpp(*arguments: object) -> None:
    flags = ["-std=c++20", "-O0", "-Wall", "-Werror", "-fPIC", "-fvisibility=hidden"]
    flags += ["-isystem", str(headers()), f"-I{HARNESS / 'stub'}", "-Ikernels", "-Icsrc"]
    command = [COMPILER, *flags, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr}")


@functools.cache
def harness() -> Path:
    source = HARNESS / "harness.cpp"
    return built_once(
        "tensorrt_harness",
        [source, HARNESS / "expressions.h"],
        lambda target: compile_cpp("-shared", source, "-o", target, "-ldl"),
    )


class Library:
    """A library of plugins, loaded as TensorRT `version` would (110400 is 11.4.0).

    `logger` is that of TensorRT 10 or 11, or 0 for none.
    """

    def __init__(self, path: Path, version: int = 110400, logger: int = 11):
        with tempfile.TemporaryDirectory() as folder:
            # Each has a harness of its own, for that has global variables.
            self.harness = ctypes.CDLL(shutil.copy(harness(), folder))
            for name, result in (
                ("load", c_char_p),
                ("creators", c_char_p),
                ("log", c_char_p),
                ("field_names", POINTER(Fields)),
                ("create", c_void_p),
                ("clone", c_void_p),
                ("attach", c_void_p),
                ("destroy", None),
                ("describe", c_char_p),
                ("fields", POINTER(Fields)),
                ("output_shape", c_char_p),
                ("supports", c_bool),
            ):
                getattr(self.harness, f"harness_{name}").restype = result
            problem = self.call("load", str(path).encode(), version, logger)
        assert problem is None, problem.decode()
        self.names = [line.split()[0] for line in self.creators()]

    def call(self, name: str, *arguments: object) -> object:
        return getattr(self.harness, f"harness_{name}")(*arguments)

    def creators(self) -> list[str]:
        """ "name version namespace interface" of each."""
        return self.call("creators").decode().splitlines()

    def log(self) -> list[str]:
        """ "severity message" of what was logged since the last call."""
        return self.call("log").decode().splitlines()

    def field_names(self, name: str) -> dict[str, int]:
        """The fields' types by their names."""
        given = self.call("field_names", self.names.index(name)).contents
        return {field.name.decode(): field.type for field in given.fields[: given.count]}

    def create(self, name: str, phase: int = 0, **values: object) -> "Plugin | None":
        return self.create_from(name, [Field.of(*item) for item in values.items()], phase)

    def create_from(self, name: str, fields: list[Field], phase: int = 0) -> "Plugin | None":
        array = (Field * len(fields))(*fields)
        given = Fields(len(fields), array)
        plugin = self.call("create", self.names.index(name), ctypes.byref(given), phase)
        return Plugin(self, plugin) if plugin else None


class Plugin:
    def __init__(self, library: Library, pointer: int):
        self.library, self.pointer = library, c_void_p(pointer)

    def call(self, name: str, *arguments: object) -> object:
        return self.library.call(name, self.pointer, *arguments)

    def describe(self) -> str:
        return self.call("describe").decode()

    def clone(self) -> "Plugin":
        return Plugin(self.library, self.call("clone"))

    def attached(self) -> "Plugin":
        return Plugin(self.library, self.call("attach"))

    def destroy(self) -> None:
        self.call("destroy")

    def fields(self) -> dict[str, object]:
        """What TensorRT would write into an engine."""
        given = self.call("fields").contents
        return {field.name.decode(): field.value() for field in given.fields[: given.count]}

    def raw_fields(self) -> list[Field]:
        given = self.call("fields").contents
        return list(given.fields[: given.count])

    def output_shape(self, *shapes: tuple[int, ...]) -> str | None:
        """Numbers, names of unknown input dimensions (-1) such as i1d0, or terms of them."""
        dims = (Dims * len(shapes))(*map(Dims.of, shapes))
        text = self.call("output_shape", dims, len(shapes))
        return None if text is None else text.decode()

    def output_type(self, *types: int) -> int:
        """-1 if the plugin refuses the inputs' types."""
        return self.call("output_type", (c_int32 * len(types))(*types), len(types))

    def supports(self, *tensors: tuple[int, int]) -> bool:
        """Whether it takes (type, format) of the inputs and the output, asked as TensorRT does."""
        descs = (DynamicDesc * len(tensors))()
        for desc, (kind, order) in zip(descs, tensors, strict=True):
            desc.desc.type, desc.desc.format = kind, order
        inputs = len(tensors) - 1
        return all(self.call("supports", at, descs, inputs) for at in range(len(tensors)))

    def shape_change(self, *shapes: tuple[int, ...]) -> int:
        """With the shapes of the inputs."""
        return self.call("shape_change", _descs(shapes, [torch.float32] * len(shapes)), len(shapes))

    def enqueue(self, inputs: list[Tensor], output: Tensor, stream: int = 0) -> int:
        """0, or an error; the tensors must be contiguous."""
        assert all(tensor.is_contiguous() for tensor in (*inputs, output))
        tensors = [*inputs, output]
        descs = _descs([each.shape for each in tensors], [each.dtype for each in tensors])
        pointers = (c_void_p * len(inputs))(*(tensor.data_ptr() for tensor in inputs))
        result = c_void_p(output.data_ptr())
        return self.call("enqueue", descs, len(inputs), pointers, result, c_void_p(stream))


def _descs(shapes: list[tuple[int, ...]], types: list[torch.dtype]) -> ctypes.Array:
    descs = (Desc * max(4, len(shapes)))()
    for desc, shape, kind in zip(descs, shapes, types, strict=False):
        desc.dims, desc.type, desc.format = Dims.of(tuple(shape)), TYPES.get(kind, -1), LINEAR
    return descs
