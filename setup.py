"""Builds the CPU library beside the Python package; everything declarative is in pyproject.toml.

The library is no Python module: it is loaded with ``torch.ops.load_library``, uses libtorch's
stable ABI alone, and so one wheel serves every Python and every torch from 2.11 on.
"""

import importlib.util
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

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


def torch_folder() -> Path:
    # Finding without importing: the build needs headers, not a running torch.
    return Path(importlib.util.find_spec("torch").origin).parent


class BuildLibrary(build_ext):
    """Compiles each kernel once per instruction set, the rest once, and links one library."""

    def get_ext_filename(self, fullname):
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def build_extension(self, ext):
        torch = torch_folder()
        include = ["kernels", "csrc", str(torch / "include")]
        macros = [("TORCH_TARGET_VERSION", TORCH_2_11)]
        jobs = [(source, "once", [*FLAGS, "-ffp-contract=off"], []) for source in ext.sources] + [
            (f"csrc/cpu/{kernel}.cpp", isa, FLAGS + own + flags, [("LESIONKIT_ISA", isa)])
            for kernel, own in KERNEL_FLAGS.items()
            for isa, flags in ISA_FLAGS.items()
        ]

        def compile_one(job):
            source, folder, flags, extra = job
            return self.compiler.compile(
                [source],
                output_dir=str(Path(self.build_temp, folder)),
                include_dirs=include,
                macros=macros + extra,
                extra_postargs=flags,
                depends=ext.depends,
            )

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = [name for names in pool.map(compile_one, jobs) for name in names]
        target = self.get_ext_fullpath(ext.name)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(
            objects,
            target,
            libraries=["torch_cpu"],
            library_dirs=[str(torch / "lib")],
            extra_postargs=["-Wl,--no-undefined", "-Wl,--as-needed"],
            target_lang="c++",
        )


class AnyPythonWheel(bdist_wheel):
    """Tags the wheel for its platform alone: no file in it depends on the Python version."""

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


sources = ["csrc/cpu/isa.cpp", *sorted(map(str, Path("csrc/torch").glob("*.cpp")))]
# Named as dependencies, the headers and the kernels' sources travel with a source distribution.
depends = [
    str(path)
    for folder in ("csrc", "kernels")
    for path in Path(folder).rglob("*")
    if path.suffix in (".h", ".cpp", ".cuh")
]
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
    ext_modules=[Extension("lesionkit.liblesionkit_cpu", sources, depends=depends, language="c++")],
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": AnyPythonWheel},
)
