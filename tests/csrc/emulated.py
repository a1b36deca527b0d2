"""The CUDA kernels and launchers compiled by g++, run on CPU tensors by the emulator."""

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

import lesionkit
from tests.ops.attention_contract import AttentionContract

ROOT = Path(__file__).parents[2]
EMULATOR = Path(__file__).parent / "emulator"
COMPILER = os.environ.get("CXX") or shutil.which("g++")
FLAGS = [
    *("-std=c++20", "-O0", "-w", "-fPIC", "-ffp-contract=off"),
    # Or libraries of one process would share the emulator's variables.
    "-fno-gnu-unique",
    *("-Itests/csrc/emulator", "-Ikernels", "-Icsrc"),  # the emulator's headers are found first
]
SANITIZERS = [
    *("-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "-fno-omit-frame-pointer",
]
TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.float64: 3}
C_TYPES = {"double": ctypes.c_double, "int64_t": ctypes.c_int64, "int": ctypes.c_int}


def launchers() -> list[Path]:
    """The sources of the library: all but the one that asks the CUDA runtime alone."""
    sources = {*(ROOT / "csrc/cuda").glob("*.cu")} - {ROOT / "csrc/cuda/error.cu"}
    return [*sorted(sources), EMULATOR / "control.cpp"]


def compile_library(target: Path, *flags: str, sources: list[Path]) -> None:
    """Build `target`, two files at a time."""

    def run(*arguments: object) -> None:
        command = [COMPILER, *FLAGS, *flags, *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        if result.returncode:
            raise RuntimeError(f"{' '.join(command)}:\n{result.stderr}")

    with tempfile.TemporaryDirectory() as folder:
        objects = [Path(folder, f"{source.name}.o") for source in sources]
        with ThreadPoolExecutor(2) as pool:
            list(
                pool.map(
                    lambda source, output: run("-x", "c++", "-c", source, "-o", output),
                    sources,
                    objects,
                )
            )
        run("-shared", *objects, "-o", target)


def library_path(*flags: str) -> Path:
    """The library, built anew when a source or a flag has changed."""
    folders = (ROOT / "kernels", ROOT / "csrc/cuda", EMULATOR)
    sources = sorted(path for folder in folders for path in folder.rglob("*.*") if path.is_file())
    sources += sorted((ROOT / "csrc").glob("*.h"))
    digest = hashlib.sha256(repr((COMPILER, FLAGS, flags)).encode())
    for path in sources:
        if path.suffix in (".h", ".cuh", ".cu", ".cpp"):
            digest.update(path.read_bytes())
    target = Path(tempfile.gettempdir(), f"lesionkit_emulated_{digest.hexdigest()[:20]}.so")
    if not target.exists():
        built = target.with_suffix(f".{os.getpid()}")
        compile_library(built, *flags, sources=launchers())
        built.replace(target)
    return target


def run_under_sanitizers(module: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a Python module with the sanitized library's path as its first argument."""
    library = library_path(*SANITIZERS)
    runtimes = [
        subprocess.run(
            [COMPILER, f"-print-file-name=lib{name}.so"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("asan", "ubsan")
    ]
    # Python itself never frees all it has. The sanitizer's memory must be there before any other.
    environment = {"LD_PRELOAD": " ".join(runtimes), "ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run(
        [sys.executable, "-m", module, str(library), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


class Emulator:
    """The C interface of csrc/cuda/launch.h on CPU memory."""

    def __init__(self, path: Path):
        self.library = ctypes.CDLL(str(path))
        header = re.sub(r"//.*", "", (ROOT / "csrc/cuda/launch.h").read_text())
        for result, name, parameters in re.findall(
            r"LESIONKIT_API\s+(int|int64_t)\s+(\w+)\(([^)]*)\)", header
        ):
            if hasattr(self.library, name):
                function = getattr(self.library, name)
                function.restype = C_TYPES[result]
                kinds = (parameter.split()[0] for parameter in parameters.split(","))
                function.argtypes = [
                    ctypes.c_void_p if "*" in parameter else C_TYPES[kind]
                    for parameter, kind in zip(parameters.split(","), kinds, strict=True)
                    if kind != "void" or "*" in parameter
                ]
        self.library.emulator_problem.restype = ctypes.c_char_p
        self.library.emulator_launches.restype = ctypes.c_char_p
        self.library.emulator_set_seed.argtypes = [ctypes.c_uint64]
        self.library.emulator_stores.restype = ctypes.c_uint64

    def seed(self, number: int) -> None:
        """Shuffle threads and blocks of all further launches; 0: take them in order."""
        self.library.emulator_set_seed(number)

    def only_record(self, only: bool) -> None:
        """Write further launches down without running them."""
        self.library.emulator_only_record(ctypes.c_bool(only))

    def launches(self) -> list[list[str]]:
        """Name, geometry and arguments of each kernel started since the last call."""
        text = self.library.emulator_launches().decode()
        return [line.split(";") for line in text.splitlines()]

    def stores(self) -> dict[int, int]:
        """How many stores there were since the last call, by their bytes."""
        counts = {size: self.library.emulator_stores(size) for size in (2, 4, 8, 16)}
        return {size: count for size, count in counts.items() if count}

    def call(self, name: str, *arguments: object) -> None:
        """Run lesionkit_<name>: tensors become pointers, types their numbers; no stream."""
        values = [
            TYPES[value]
            if isinstance(value, torch.dtype)
            else value.data_ptr()
            if isinstance(value, Tensor)
            else value
            for value in arguments
        ]
        error = getattr(self.library, f"lesionkit_{name}")(*values, None)
        assert error == 0, f"{name}: error {error}, {self.library.emulator_problem().decode()}"


def misaligned(tensor: Tensor, elements: int = 1) -> Tensor:
    """A contiguous copy that begins `elements` past an aligned address and ends its memory."""
    buffer = tensor.new_empty(elements + tensor.numel())
    return buffer[elements:].view(tensor.shape).copy_(tensor)


def attention(emulator: Emulator, kernel: str, offset: int = 0) -> type[AttentionContract]:
    """The contract's checks for an attention kernel; all memory `offset` elements off alignment."""
    num_logits = 2 if kernel == "dual" else 1

    def sizes(x: Tensor) -> tuple[int, ...]:
        samples, images, channels, height, width = x.shape
        return {
            "contextual": (samples, images, channels * height * width),
            "spatial": (samples * images * channels, height * width),
            "dual": (samples, images, channels, height * width),
        }[kernel]

    def result_like(tensor: Tensor) -> Tensor:
        return misaligned(torch.full_like(tensor, torch.nan), offset)

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *arguments):
            tensors = [misaligned(tensor, offset) for tensor in arguments[: 1 + num_logits]]
            ctx.save_for_backward(*tensors)
            ctx.temperatures = arguments[1 + num_logits :]
            x, logits, *_ = tensors
            y = result_like(x)
            types = x.dtype, logits.dtype
            emulator.call(
                f"{kernel}_forward", *tensors, y, *types, *sizes(x), *map(float, ctx.temperatures)
            )
            return y

        @staticmethod
        def backward(ctx, grad):
            tensors = ctx.saved_tensors
            x, logits, *_ = tensors
            results = [result_like(tensor) for tensor in tensors]
            types = x.dtype, logits.dtype
            emulator.call(
                *(f"{kernel}_backward", misaligned(grad, offset), *tensors, *results, *types),
                *(*sizes(x), *map(float, ctx.temperatures)),
            )
            return *results, *(None for _ in ctx.temperatures)

    defaults = {"contextual": (2.0,), "spatial": (3.0,), "dual": (2.0, 3.0)}[kernel]

    class Contract(AttentionContract):
        @staticmethod
        def op(*arguments):
            temperatures = arguments[1 + num_logits :] or defaults
            return Function.apply(*arguments[: 1 + num_logits], *temperatures)

        reference = staticmethod(getattr(lesionkit, f"{kernel}_attention_reference"))

    Contract.num_logits = num_logits
    axes = {"contextual": ((1,),), "spatial": ((3, 4),), "dual": ((1,), (3, 4))}
    Contract.groups = axes[kernel]
    return Contract


@functools.cache
def emulator() -> Emulator:
    return Emulator(library_path())
