"""What a figure must name: device, driver, versions, date and commit."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]


def describe() -> dict[str, str | int | None]:
    """None or "unknown" stands for what is not there."""
    facts = {"device": "cpu (dry run)"}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        facts = {
            "device": properties.name,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "l2_cache_bytes": properties.L2_cache_size,
        }
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    nvcc = re.search(r"release (\S+),", output_of([find_tool("nvcc") or "nvcc", "--version"]))
    return facts | {
        "driver": output_of(query) or "unknown",
        "cuda": torch.version.cuda,
        "nvcc": nvcc[1] if nvcc else None,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        **{name: _version(name) for name in ("triton", "torchvision", "cupy")},
        "commit": commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    }


# What brings a backend that is missing.
REMEDIES = {
    "cuda": "add `build` to --parts, or install with LESIONKIT_CUDA=1",
    "triton": "add `build` to --parts, and install the triton that this torch asks for",
    "nvrtc": "`lesionkit doctor` tells why CuPy does not work; or uninstall it",
}


def expected_backends() -> list[str]:
    """What a complete installation on a GPU has; `nvrtc` only where CuPy is installed."""
    return ["cuda", "triton", *(["nvrtc"] if find_spec("cupy") else [])]


def absent(expected: Iterable[str], available: Iterable[str]) -> list[str]:
    """A line on every backend that is expected and not there: its name and the remedy."""
    return [f"{name}: {REMEDIES[name]}" for name in expected if name not in set(available)]


def commit() -> str:
    """The commit that is checked out, marked if files differ from it.

    Where there is a copy without git's folder, LESIONKIT_COMMIT can name it.
    """
    if os.environ.get("LESIONKIT_COMMIT"):
        return os.environ["LESIONKIT_COMMIT"]
    # The owner of a copy may be another.
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    head = output_of([*git, "rev-parse", "--short=12", "HEAD"])
    changed = output_of([*git, "status", "--porcelain", "-uno"])
    return (head or "unknown") + (" with changes" if changed else "")


def find_tool(name: str) -> str | None:
    """Path of a tool of the CUDA toolkit: on PATH, below CUDA_HOME, or where it is by default."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    folders = [f"{home}/{inside}" for home in homes if home for inside in ("bin", name)]
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(folders))


def output_of(command: list[str]) -> str:
    """What a command prints; nothing if it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _version(module: str) -> str | None:
    try:
        return __import__(module).__version__
    except Exception:  # CuPy, too, raises others than ImportError where CUDA is not complete
        return None
