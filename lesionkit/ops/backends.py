"""Which implementation an op runs with.

Only ``auto`` falls back. A backend asked for by name runs, or raises and says what to do.
"""

import functools
import os
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

BACKENDS = ("reference", "cpu", "triton", "cuda", "nvrtc")
# Run from Python, by lesionkit.kernels.<op>.<backend>; the others by the dispatcher.
PYTHON_BACKENDS = ("triton", "nvrtc")

# Fastest first, by device type; `reference` stands behind all. bench/ measures the order.
_AUTO_ORDER = {"cpu": ("cpu",), "cuda": ("cuda", "triton", "nvrtc")}

# Triton decides on its interpreter when it is imported, so later changes have no effect.
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def _load_library(name: str) -> str | None:
    """Load a library of C++ or CUDA kernels; the reason if it cannot be."""
    library = Path(__file__).parents[1] / f"liblesionkit_{name}.so"
    if not library.exists():
        compiler = {"cpu": "a C++ compiler", "cuda": "nvcc and LESIONKIT_CUDA=1"}[name]
        return f"{library.name} is not built; install with `pip install .` and {compiler}"
    try:
        torch.ops.load_library(library)
    except OSError as error:
        return f"{library.name} does not load into torch {torch.__version__}: {error}"
    return None


def _missing(module: str, package: str) -> str | None:
    return None if find_spec(module) else f"{module} is not installed; pip install {package}"


@functools.cache
def _cupy_problem() -> str | None:
    """What keeps the CuPy that is installed from launching on torch's streams."""
    try:
        import cupy
    except ImportError as error:
        return f"cupy cannot be imported: {error}"
    if hasattr(cupy.cuda.Stream, "from_external"):
        return None
    return (
        f"cupy {cupy.__version__} has no Stream.from_external, which is there from 14 on; "
        "pip install --upgrade cupy-cuda13x"
    )


# The CPU library holds the schemas that all backends but the reference register against.
_LIBRARY_PROBLEM = _load_library("cpu")
_PROBLEMS = {
    "cuda": _load_library("cuda")
    if torch.version.cuda and _LIBRARY_PROBLEM is None
    else "this torch is built without CUDA",
    "triton": _missing("triton", "triton"),
    "nvrtc": _missing("cupy", "cupy-cuda13x"),
}


def has_library() -> bool:
    """Whether the dispatcher knows the ops ``torch.ops.lesionkit.*``."""
    return _LIBRARY_PROBLEM is None


def why_not(backend: str, device_type: str = "cpu") -> str | None:
    """Why `backend` cannot run on tensors of `device_type`; None if it can."""
    if backend == "reference":
        return None
    if _LIBRARY_PROBLEM is not None:
        return _LIBRARY_PROBLEM
    if _PROBLEMS.get(backend) is not None:
        return _PROBLEMS[backend]
    if backend == "triton" and device_type == "cpu":
        return None if _INTERPRETED else "it runs on CPU tensors only under TRITON_INTERPRET=1"
    runs_on = "cpu" if backend == "cpu" else "cuda"
    if device_type != runs_on:
        return f"it runs on {runs_on.upper()} tensors, not on {device_type}"
    # Asked last: it imports CuPy, which takes most of a second.
    return _cupy_problem() if backend == "nvrtc" else None


def _why_not_for(backend: str, tensors: tuple[Tensor, ...]) -> str | None:
    if backend in ("triton", "cuda", "nvrtc"):
        for tensor in tensors:
            if tensor.dtype == torch.float64:
                return "it computes in float32 and takes no float64"
    return why_not(backend, tensors[0].device.type)


def available_backends(device: str | torch.device = "cpu") -> tuple[str, ...]:
    """The names that ``use_backend`` takes and that run on tensors of `device`, besides auto.

    Whether there is such a device is another question: ``torch.cuda.is_available()``.
    """
    device_type = torch.device(device).type
    return tuple(name for name in BACKENDS if why_not(name, device_type) is None)


def _checked(backend: str) -> str:
    if backend not in ("auto", *BACKENDS):
        allowed = ", ".join(("auto", *BACKENDS))
        raise ValueError(f"backend must be one of {allowed}, got {backend!r}")
    return backend


_selected = _checked(os.environ.get("LESIONKIT_BACKEND", "auto"))


class use_backend:
    """Choose the backend of all ops in this process, for good or for a block.

    ``use_backend("reference")`` holds from there on; ``with use_backend("reference"):`` until the
    block ends. The environment variable LESIONKIT_BACKEND sets the default, ``auto`` without it.
    It holds for all threads, so blocks of several threads must not overlap.

    Raises:
        ValueError: an unknown name.
    """

    def __init__(self, backend: str):
        global _selected
        self.previous = _selected
        self.backend = _selected = _checked(backend)

    def __enter__(self) -> None:
        global _selected
        _selected = self.backend

    def __exit__(self, *exception: object) -> None:
        global _selected
        _selected = self.previous


def resolve(*tensors: Tensor) -> str:
    """The backend for these tensors of one device; RuntimeError if the chosen one cannot run."""
    device_type = tensors[0].device.type
    if _selected == "auto":
        for backend in _AUTO_ORDER.get(device_type, ()):
            if _why_not_for(backend, tensors) is None:
                return backend
        return "reference"
    problem = _why_not_for(_selected, tensors)
    if problem is not None:
        raise RuntimeError(
            f"backend {_selected!r} cannot run on {device_type} tensors: {problem}; "
            f"choose another with lesionkit.use_backend, or 'auto'"
        )
    return _selected
