"""The CUDA library and the tools that look into it, without a GPU."""

import functools
import re
import shutil
import subprocess
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import lesionkit

ROOT = Path(__file__).parents[2]
LIBRARY = Path(lesionkit.__file__).parent / "liblesionkit_cuda.so"
ARCHITECTURES = (80, 86, 89, 90, 100, 120)


def find_cuobjdump() -> str | None:
    """The CUDA toolkit's, or the one that Triton carries."""
    found = shutil.which("cuobjdump")
    if found is None and find_spec("triton"):
        bundled = Path(find_spec("triton").origin).parent / "backends/nvidia/bin/cuobjdump"
        found = str(bundled) if bundled.exists() else None
    return found


def run(*command: object) -> str:
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def _demangled(text: str) -> str:
    process = subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True)
    return re.sub(r"lesionkit::(device::)?", "", process.stdout)


@functools.cache
def architectures() -> list[int]:
    """Those that the library holds machine code for."""
    return sorted(set(map(int, re.findall(r"sm_(\d+)", run(find_cuobjdump(), "-lelf", LIBRARY)))))


def _short(name: str) -> str:
    """``void spatial::forward<float, 4, 2, false, true>(float const*, ...)`` without the rest."""
    return re.sub(r"^\s*void ", "", name).partition("(")[0].strip()


@functools.cache
def resources(arch: int) -> dict[str, dict[str, int]]:
    """REG, STACK, SHARED, LOCAL of each kernel, by its name and template arguments."""
    text = _demangled(run(find_cuobjdump(), "-res-usage", "-arch", f"sm_{arch}", LIBRARY))
    pattern = r"Function (.+):\s*\n\s*(REG:.*)"
    return {
        _short(name): {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", line)}
        for name, line in re.findall(pattern, text)
    }


@functools.cache
def instructions(arch: int) -> dict[str, dict[str, int]]:
    """How often each kernel has each instruction, modifiers included."""
    text = _demangled(run(find_cuobjdump(), "-sass", "-arch", f"sm_{arch}", LIBRARY))
    counts: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        if "Function :" in line:
            kernel = counts.setdefault(_short(line.partition(":")[2]), defaultdict(int))
        elif found := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+ )?\s*([A-Z][\w.]*)", line):
            kernel[found[1]] += 1
    return counts
