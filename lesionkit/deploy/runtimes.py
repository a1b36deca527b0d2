"""TensorRT's Python packages behind one surface: ``tensorrt`` 10 and 11, ``tensorrt_rtx``, and
``tensorrt_lean``, which builds nothing and runs version-compatible plans alone.

They share one API in parts. What a package can do is asked of it with ``hasattr``, never derived
from its version.
"""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from lesionkit.errors import InputError

# In the order in which "auto" tries them, with the command that installs each.
RUNTIMES = {
    "tensorrt": "pip install tensorrt",
    "tensorrt_rtx": "pip install tensorrt-rtx",
    "tensorrt_lean": "pip install tensorrt-lean",
}


# What a runtime without a builder runs; lesionkit builds no such plans.
LEAN = "version-compatible plans alone, which trtexec --versionCompatible builds"


def why_not(name: str) -> str | None:
    """Why the runtime cannot be used; None if it can."""
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        # The bindings alone, without the libraries they need, say so with the other one.
        return f"is not installed; {RUNTIMES[name]}" if error.name == name else str(error)
    except (ImportError, OSError, RuntimeError) as error:
        return f"is installed but does not load: {error}"
    return None


def load_runtime(name: str = "auto", needs: str = "Runtime") -> ModuleType:
    """The Python module of a TensorRT runtime.

    Args:
        name: one of RUNTIMES, or "auto" for the first that is there and has what is needed.
        needs: an attribute that it must have, such as "Builder".

    Raises InputError: the runtime is not there, or cannot do it; the message says what to do.
    """
    if name != "auto" and name not in RUNTIMES:
        raise InputError(f"runtime {name!r}: must be auto or one of {', '.join(RUNTIMES)}")
    problems = []
    for candidate in RUNTIMES if name == "auto" else [name]:
        problem = why_not(candidate)
        if problem is None:
            module = import_module(candidate)
            if hasattr(module, needs):
                return module
            problem = f"has no {needs}"
        problems.append(f"{candidate} {problem}")
    raise InputError(f"runtime {name}: " + "; ".join(problems))


def check_compute_capability(trt: ModuleType, wanted: Sequence[int]) -> None:
    """Raise InputError for GPUs, such as 89, that the runtime does not build plans for."""
    if not hasattr(trt.IBuilderConfig, "set_compute_capability"):
        raise InputError(
            f"compute_capability {', '.join(map(str, wanted))}: {trt.__name__} builds for the GPU "
            "of this machine alone; leave it out there, or build with tensorrt_rtx"
        )
    known = [name[2:] for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    for number in wanted:
        if str(number) not in known:
            raise InputError(
                f"compute_capability {number}: {trt.__name__} {trt.__version__} builds for "
                f"{', '.join(known)}"
            )


def create(trt: ModuleType, kind: str) -> Any:
    """The runtime's "Builder" or "Runtime"; InputError where CUDA does not work."""
    try:
        return getattr(trt, kind)(log_of(trt))
    except TypeError:  # what the bindings make of TensorRT's null pointer
        raise InputError(
            f"{trt.__name__} {trt.__version__} gives no {kind}: {'; '.join(log_of(trt).take())}; "
            "it needs an NVIDIA GPU and its driver"
        ) from None


@cache
def log_of(trt: ModuleType):
    """The one log of a runtime; its ``take()`` gives the errors since the last call, or says so.

    One for the life of the process: TensorRT keeps the first that it is given, whatever comes.
    """

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: object, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.lines.append(" ".join(message.split()))

        def take(self) -> list[str]:
            lines, self.lines = list(dict.fromkeys(self.lines)), []
            return lines or ["TensorRT gives no reason"]

    return Log()
