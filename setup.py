"""Builds the libraries beside the Python package; everything declarative is in pyproject.toml.

They are no Python modules: they are loaded with ``torch.ops.load_library``, use libtorch's stable
ABI alone, and so one wheel serves every Python and every torch from 2.11 on. The CUDA library is
built where nvcc is, with or without a GPU; LESIONKIT_CUDA=0 leaves it out, 1 insists on it.

The TensorRT plugins, a library that TensorRT loads, are built beside the CUDA library if
TENSORRT_INCLUDE_DIR names the folder of TensorRT's C++ headers, or TENSORRT_ROOT the folder that
has them in include/. Only the headers are needed, and they may be those of any version from 10.0.
"""

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:
    raise SystemExit(
        "lesionkit is built by setuptools 77 or later: pip install 'setuptools>=77'"
    ) from None

TORCH_2_11 = "0x020b000000000000"
FLAGS = [
    "-std=c++20",
    "-O3",
    "-fvisibility=hidden",
    "-Wall",
    "-g0",
    # Nobody reads errno or the exception flags; without these GCC keeps loops scalar. NaN and
    # infinity keep their meaning: none of -ffast-math's assumptions about them is made.
    "-fno-math-errno",
    "-fno-trapping-math",
]
# Bin edges of PSROI pooling must round as the reference does; exp in attention wants fused steps.
KERNEL_FLAGS = {
    "contextual": ["-ffp-contract=fast"],
    "spatial": ["-ffp-contract=fast"],
    "dual": ["-ffp-contract=fast"],
    "psroi": ["-ffp-contract=off"],
}
ISA_FLAGS = {"baseline": []}
if platform.machine() in ("x86_64", "AMD64"):
    avx2 = ["-mavx2", "-mfma", "-mf16c"]
    avx512 = [f"-mavx512{part}" for part in ("f", "bw", "dq", "vl")]
    # GCC warns about the undefined operands of its own AVX-512 intrinsics.
    quiet = ["-mprefer-vector-width=512", "-Wno-maybe-uninitialized"]
    ISA_FLAGS |= {"avx2": avx2, "avx512": [*avx2, *avx512, *quiet]}


# Each gets machine code, and the newest also PTX for what comes after it.
CUDA_ARCHITECTURES = (80, 86, 89, 90, 100, 120)
NVCC_FLAGS = ["-std=c++20", "-O3", "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall"]


def torch_folder() -> Path:
    # Finding without importing: the build needs headers, not a running torch.
    return Path(importlib.util.find_spec("torch").origin).parent


def find_nvcc() -> str | None:
    """Path of nvcc if the CUDA library is to be built."""
    wish = os.environ.get("LESIONKIT_CUDA", "")
    if wish not in ("", "0", "1"):
        raise SystemExit(f"LESIONKIT_CUDA must be 0, 1 or unset, got {wish!r}")
    if wish == "0":
        return None
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    nvcc = shutil.which("nvcc", path=os.pathsep.join(f"{home}/bin" for home in homes))
    nvcc = nvcc or shutil.which("nvcc")
    if nvcc is None and wish == "1":
        raise SystemExit(
            "LESIONKIT_CUDA=1 asks for the CUDA library, but there is no nvcc: install the CUDA "
            "toolkit, and put its bin folder on PATH or set CUDA_HOME to its folder"
        )
    return nvcc


def find_tensorrt() -> Path | None:
    """Folder of TensorRT's headers if the plugins are to be built."""
    for name, inside in (("TENSORRT_INCLUDE_DIR", "."), ("TENSORRT_ROOT", "include")):
        if not os.environ.get(name):
            continue
        if find_nvcc() is None:
            print(f"{name} is set, but the TensorRT plugins need nvcc: left out", flush=True)
            return None
        folder = Path(os.environ[name], inside).absolute()
        if not (folder / "NvInferRuntime.h").is_file():
            raise SystemExit(
                f"{name}={os.environ[name]}: there is no NvInferRuntime.h in {folder}. Set "
                "TENSORRT_INCLUDE_DIR to the folder that has TensorRT's C++ headers, version 10.0 "
                f"or later, or unset {name} to install without the TensorRT plugins"
            )
        return folder
    return None


def run_nvcc(nvcc: str, *arguments: object) -> str:
    command = [nvcc, *map(str, arguments)]
    print(*command, flush=True)
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    print(process.stderr, end="", flush=True)
    if process.returncode:
        raise SystemExit(
            f"nvcc failed; its message is above. LESIONKIT_CUDA=0 installs without it.\n"
            f"{process.stdout}"
        )
    return process.stdout


def known_architectures(nvcc: str) -> list[int]:
    known = run_nvcc(nvcc, "--list-gpu-arch").split()
    unknown = [arch for arch in CUDA_ARCHITECTURES if f"compute_{arch}" not in known]
    if unknown:
        print(f"this nvcc does not know {unknown}: no machine code for them", flush=True)
    return [arch for arch in CUDA_ARCHITECTURES if arch not in unknown]


def code_flags(architectures: list[int]) -> list[str]:
    codes = {arch: f"sm_{arch}" for arch in architectures}
    newest = architectures[-1]
    codes[newest] = f"[sm_{newest},compute_{newest}]"
    return [f"-gencode=arch=compute_{arch},code={code}" for arch, code in codes.items()]


def headers(*folders: str) -> list[str]:
    paths = [path for folder in folders for path in sorted(Path(folder).rglob("*"))]
    return [str(path) for path in paths if path.suffix in (".h", ".cuh")]


def compile_with_nvcc(
    nvcc: str, sources: list[str], folder: Path, headers: list[str], extra: tuple[str, ...] = ()
) -> list[str]:
    """Object files of .cu and .cpp sources, compiled anew only where something changed."""
    architectures = known_architectures(nvcc)
    flags = [*NVCC_FLAGS, *code_flags(architectures), "-Ikernels", "-Icsrc", *extra]
    version = run_nvcc(nvcc, "--version")
    key = hashlib.sha256(" ".join([*flags, version]).encode()).hexdigest()[:8]
    folder.mkdir(parents=True, exist_ok=True)
    # nvcc compiles for several architectures side by side, which balances better than files do.
    threads = min(os.cpu_count(), len(architectures))

    def compile_one(source: str) -> str:
        target = folder / f"{Path(source).stem}.{key}.o"
        newest_source = max(os.path.getmtime(path) for path in [source, *headers])
        if not target.exists() or target.stat().st_mtime < newest_source:
            partial = target.with_suffix(".part.o")
            run_nvcc(nvcc, *flags, f"--threads={threads}", "-c", source, "-o", partial)
            partial.replace(target)
        return str(target)

    with ThreadPoolExecutor(max(1, os.cpu_count() // threads)) as pool:
        return list(pool.map(compile_one, sources))


def compile_cuda(nvcc: str, sources: list[str]) -> list[str]:
    """Object files of the .cu files among the sources: kernels and launchers."""
    # Not in build_temp: an editable install makes a new one each time, and nvcc takes minutes.
    folder = Path("build", "cuda")
    device = [source for source in sources if source.endswith(".cu")]
    return compile_with_nvcc(
        nvcc, device, folder, [*headers("kernels", "csrc/cuda"), "csrc/temperature.h"]
    )


class BuildLibrary(build_ext):
    """Compiles and links ``liblesionkit_cpu``, ``..._cuda``, ``..._tensorrt`` and what loads it."""

    def get_ext_filename(self, fullname):
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def compile_all(self, jobs, depends):
        """Object files of (source, folder, flags, macros) jobs."""
        include = ["kernels", "csrc", str(torch_folder() / "include")]

        def compile_one(job):
            source, folder, flags, macros = job
            return self.compiler.compile(
                [source],
                output_dir=str(Path(self.build_temp, folder)),
                include_dirs=include,
                macros=[("TORCH_TARGET_VERSION", TORCH_2_11), *macros],
                extra_postargs=flags,
                depends=depends,
            )

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return [name for names in pool.map(compile_one, jobs) for name in names]

    def build_extension(self, ext):
        target = self.get_ext_fullpath(ext.name)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        getattr(self, f"build_{ext.name.rpartition('_')[2]}")(ext, target)

    def build_cpu(self, ext, target):
        """Each kernel is compiled once per instruction set, the rest once."""
        jobs = [(source, "once", [*FLAGS, "-ffp-contract=off"], []) for source in ext.sources] + [
            (f"csrc/cpu/{kernel}.cpp", isa, FLAGS + own + flags, [("LESIONKIT_ISA", isa)])
            for kernel, own in KERNEL_FLAGS.items()
            for isa, flags in ISA_FLAGS.items()
        ]
        self.compiler.link_shared_object(
            self.compile_all(jobs, ext.depends),
            target,
            libraries=["torch_cpu"],
            library_dirs=[str(torch_folder() / "lib")],
            extra_postargs=["-Wl,--no-undefined", "-Wl,--as-needed"],
            target_lang="c++",
        )

    def build_cuda(self, ext, target):
        """nvcc compiles the .cu files, the C++ compiler what knows torch."""
        nvcc = find_nvcc()
        objects = compile_cuda(nvcc, ext.sources)
        host = [source for source in ext.sources if source.endswith(".cpp")]
        # Torch's header declares the stream of CUDA only to those who say that they have it.
        objects += self.compile_all(
            [(source, "once", FLAGS, [("USE_CUDA", "1")]) for source in host], ext.depends
        )
        # libtorch.so brings libtorch_cuda.so along where torch has CUDA. The torch that we build
        # with may have none, so undefined symbols are left to the loader.
        run_nvcc(
            *(nvcc, "-shared", "-cudart=static", *code_flags(known_architectures(nvcc))),
            *(*objects, "-o", target),
            *("-Xlinker=--exclude-libs,ALL", "-Xlinker=--no-as-needed"),
            *(f"-L{torch_folder() / 'lib'}", "-ltorch"),
        )

    def build_tensorrt(self, ext, target):
        """The plugins on the CUDA library's kernels and launchers, whose names stay inside."""
        nvcc = find_nvcc()
        plugins = compile_with_nvcc(
            nvcc,
            [source for source in ext.sources if source.endswith(".cpp")],
            Path(self.build_temp, "tensorrt"),
            headers("csrc/tensorrt", "csrc/cuda"),
            # As system headers, since they use what they themselves declare deprecated.
            ("-isystem", str(find_tensorrt())),
        )
        run_nvcc(
            *(nvcc, "-shared", "-cudart=static", *code_flags(known_architectures(nvcc))),
            *(*compile_cuda(nvcc, ext.sources), *plugins, "-o", target),
            *("-Xlinker=--version-script=csrc/tensorrt/exports.map", "-Xlinker=--no-undefined"),
        )

    def build_register(self, ext, target):
        self.compiler.link_shared_object(
            self.compile_all([(source, "once", FLAGS, []) for source in ext.sources], ext.depends),
            target,
            libraries=["dl"],
            extra_postargs=["-Wl,--no-undefined"],
            target_lang="c++",
        )


class AnyPythonWheel(bdist_wheel):
    """Tags the wheel for its platform alone: no file in it depends on the Python version."""

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


# Named as dependencies, the headers and the kernels' sources travel with a source distribution.
depends = [
    str(path)
    for folder in ("csrc", "kernels")
    for path in sorted(Path(folder).rglob("*"))
    if path.suffix in (".h", ".cpp", ".cuh", ".cu")
]


def library(name: str, *patterns: str) -> Extension:
    sources = [str(path) for pattern in patterns for path in sorted(Path("csrc").glob(pattern))]
    return Extension(f"lesionkit.liblesionkit_{name}", sources, depends=depends, language="c++")


libraries = [library("cpu", "cpu/isa.cpp", "torch/schema.cpp", "torch/cpu/*.cpp")]
if find_nvcc() is not None:
    libraries.append(library("cuda", "cuda/*.cu", "torch/cuda/*.cpp"))
if find_tensorrt() is not None:
    libraries.append(library("tensorrt", "cuda/*.cu", "tensorrt/*.cpp"))
    libraries.append(library("tensorrt_register", "tensorrt/register/*.cpp"))

packages = find_packages(include=["lesionkit", "lesionkit.*"])
device_packages = [
    "lesionkit.kernels",
    *(f"lesionkit.kernels.{name}" for name in find_packages("kernels")),
]

setup(
    packages=packages + device_packages,
    # The folder kernels/ stands at the top level for its readers, but must never be importable as
    # `kernels`: that name belongs to another package.
    package_dir={"lesionkit.kernels": "kernels"},
    package_data={
        "lesionkit.kernels": ["*/*.h", "*/*.cuh"],
        "lesionkit.visualize.report": ["*.html", "*.css", "*.js"],
    },
    ext_modules=libraries,
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": AnyPythonWheel},
)
