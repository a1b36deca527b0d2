"""Builds the libraries beside the Python package; everything declarative is in pyproject.toml.

They are no Python modules: they are loaded with ``torch.ops.load_library``, use libtorch's stable
ABI alone, and so one wheel serves every Python and every torch from 2.11 on. The CUDA library is
built where nvcc is, with or without a GPU; LESIONKIT_CUDA=0 leaves it out, 1 insists on it.
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


def compile_cuda(nvcc: str, sources: list[str], folder: Path, depends: list[str]) -> list[str]:
    """Object files of .cu sources, compiled anew only where something changed."""
    architectures = known_architectures(nvcc)
    flags = [*NVCC_FLAGS, *code_flags(architectures), "-Ikernels", "-Icsrc"]
    version = run_nvcc(nvcc, "--version")
    key = hashlib.sha256(" ".join([*flags, version]).encode()).hexdigest()[:8]
    headers = [path for path in depends if path.endswith((".h", ".cuh"))]
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


class BuildLibrary(build_ext):
    """Compiles and links ``liblesionkit_cpu`` and ``liblesionkit_cuda``."""

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
        build = self.build_cuda if ext.name.endswith("_cuda") else self.build_cpu
        build(ext, target, str(torch_folder() / "lib"))

    def build_cpu(self, ext, target, torch_libraries):
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
            library_dirs=[torch_libraries],
            extra_postargs=["-Wl,--no-undefined", "-Wl,--as-needed"],
            target_lang="c++",
        )

    def build_cuda(self, ext, target, torch_libraries):
        """nvcc compiles the .cu files, the C++ compiler what knows torch."""
        nvcc = find_nvcc()
        device = [source for source in ext.sources if source.endswith(".cu")]
        host = [source for source in ext.sources if source.endswith(".cpp")]
        # Not in build_temp: an editable install makes a new one each time, and nvcc takes minutes.
        objects = compile_cuda(nvcc, device, Path("build", "cuda"), ext.depends)
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
            *(f"-L{torch_libraries}", "-ltorch"),
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
    package_data={"lesionkit.kernels": ["*/*.h", "*/*.cuh"]},
    ext_modules=libraries,
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": AnyPythonWheel},
)
