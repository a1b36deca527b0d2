"""Which implementation an op runs with.

Only ``auto`` falls back. A backend asked for by name runs, or raises and says what to do.
"""

import os
from pathlib import Path

import torch

BACKENDS = ("reference", "cpu")

# Fastest first, by device type. Measured by bench/attention.py and bench/psroi.py.
_AUTO_ORDER = {"cpu": ("cpu", "reference")}


def _load_library() -> str | None:
    """Load the C++ kernels and schemas; the reason if they cannot be."""
    library = Path(__file__).parents[1] / "liblesionkit_cpu.so"
    if not library.exists():
        return f"{library.name} is not built; install with `pip install .` and a C++ compiler"
    try:
        torch.ops.load_library(library)
    except OSError as error:
        return f"{library.name} does not load into torch {torch.__version__}: {error}"
    return None


_LIBRARY_PROBLEM = _load_library()


def has_library() -> bool:
    """Whether the dispatcher knows the ops ``torch.ops.lesionkit.*``."""
    return _LIBRARY_PROBLEM is None


def why_not(backend: str, device_type: str = "cpu") -> str | None:
    """Why `backend` cannot run on tensors of `device_type`; None if it can."""
    if backend == "cpu":
        if _LIBRARY_PROBLEM is not None:
            return _LIBRARY_PROBLEM
        if device_type != "cpu":
            return f"it runs on CPU tensors, not on {device_type}"
    return None


def available_backends(device: str | torch.device = "cpu") -> tuple[str, ...]:
    """The names that ``use_backend`` takes and that run on tensors of `device`, besides auto."""
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

    Raises:
        ValueError: an unknown name.
    """

    def __init__(self, backend: str):
        global _selected
        self.previous = _selected
        _selected = _checked(backend)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exception: object) -> None:
        global _selected
        _selected = self.previous


def resolve(device: torch.device) -> str:
    """The backend for tensors on `device`; RuntimeError if the chosen one cannot run there."""
    if _selected == "auto":
        for backend in _AUTO_ORDER.get(device.type, ()):
            if why_not(backend, device.type) is None:
                return backend
        return "reference"
    problem = why_not(_selected, device.type)
    if problem is not None:
        raise RuntimeError(
            f"backend {_selected!r} cannot run on {device.type} tensors: {problem}; "
            f"choose another with lesionkit.use_backend, or 'auto'"
        )
    return _selected
