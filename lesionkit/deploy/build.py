"""ONNX files to TensorRT plans."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lesionkit.deploy.onnx import read_metadata
from lesionkit.deploy.plan import capability_of, write_description
from lesionkit.errors import InputError
from lesionkit.files import atomic_write

# Found where this process found it, but after everything else: not every folder is clean.
_CHILD = (
    f"import sys; sys.path.append({str(Path(__file__).parents[2])!r}); "
    "from lesionkit.deploy.build_process import main; main()"
)


def build_engine(
    onnx: str | os.PathLike,
    plan: str | os.PathLike,
    *,
    runtime: str = "auto",
    batch: tuple[int, int, int] = (1, 1, 4),
    compute_capability: int | Sequence[int] | None = None,
) -> dict[str, Any]:
    """Build a TensorRT plan of an exported detector, in the precision of the ONNX file.

    ``tensorrt`` builds for the first GPU that CUDA shows it. ``tensorrt_rtx`` needs no GPU and no
    driver: its plans get their kernels where they are loaded. A child process does the work, so
    it can be ended at any time, and a crash of TensorRT is an error like others.

    Args:
        onnx: a file that ``export_onnx`` wrote.
        plan: where the plan goes; a JSON file of its name and .json describes it.
        runtime: "tensorrt", "tensorrt_rtx", or "auto" for the first that is installed.
        batch: least, usual and largest number of samples B that the engine takes.
        compute_capability: the GPUs to build for, such as 89 or (80, 86, 89, 120); by default
            the one of this machine (tensorrt, the only choice there) or all (tensorrt_rtx).

    Returns:
        What the JSON file says: "runtime", "version", "compute_capability", "batch",
        "plugin_layers" (names of nodes), "bytes" and "sha256" of the plan, and "detector", which
        is :func:`~lesionkit.deploy.read_metadata` of the ONNX file.

    Raises:
        InputError: no such file or runtime, a GPU that the runtime does not build for, a missing
            plugin, or TensorRT cannot build; with its own words, and the remedy if there is one.
        ValueError: an impossible batch or compute capability.
    """
    onnx, plan = Path(onnx), Path(plan)
    batch = checked_batch(batch)
    targets = _checked_capability(compute_capability)
    detector = read_metadata(onnx)
    with atomic_write(plan) as path:
        report = _in_a_process(
            runtime,
            {
                "onnx": str(onnx),
                "plan": str(path),
                "batch": batch,
                "compute_capability": targets,
                "needs_plugins": detector["form"] == "plugin",
            },
        )
    if report["compute_capability"] is None and report["runtime"] == "tensorrt":
        report["compute_capability"] = [capability_of(0)]
    return write_description(plan, {**report, "detector": detector})


def checked_batch(batch: object) -> list[int]:
    """As a list; ValueError unless it is three rising sizes."""
    valid = isinstance(batch, tuple | list) and len(batch) == 3
    valid = valid and all(type(size) is int for size in batch)
    if not valid or not 1 <= batch[0] <= batch[1] <= batch[2]:
        raise ValueError(
            "batch must be (least, usual, largest), rising integers from 1 on, such as (1, 1, 4), "
            f"got {batch!r}"
        )
    return list(batch)


def _checked_capability(wanted: object) -> list[int] | None:
    if wanted is None:
        return None
    targets = list(wanted) if isinstance(wanted, Sequence) else [wanted]
    if not targets or any(type(number) is not int for number in targets):
        raise ValueError(
            f"compute_capability must be an integer such as 89, or several, got {wanted!r}"
        )
    return sorted({*targets})


def _in_a_process(runtime: str, build: dict[str, Any]) -> dict[str, Any]:
    """The report of lesionkit/deploy/build_process.py; InputError with the one that it has."""
    with TemporaryDirectory(prefix="lesionkit-") as scratch:
        report = Path(scratch, "report.json")
        request = {"runtime": runtime, "build": build, "report": str(report)}
        done = subprocess.run(
            # -P: a file in the current folder that is called onnx.py is none of ours.
            [sys.executable, "-P", "-c", _CHILD],
            input=json.dumps(request).encode(),
            capture_output=True,
            env=_environment(Path(scratch)),
        )
        if not report.exists():
            words = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
            raise InputError(
                f"{build['onnx']}: TensorRT broke off while building (exit code "
                f"{done.returncode}): {' / '.join(words)}"
            )
        report = json.loads(report.read_text(encoding="utf-8"))
    if "error" in report:
        raise InputError(report["error"])
    return report


def _environment(scratch: Path) -> dict[str, str]:
    """For a process in which TensorRT-RTX can parse plugins.

    Its parser opens ``libtensorrt_rtx.so``, a name that the wheel lacks, and ends the process when
    there is none. It must lead to the very file that the wheel loads: a copy would be a second
    library without the state of the first. The loader reads its path only when a process starts.
    """
    environment = dict(os.environ)
    libraries = find_spec("tensorrt_rtx_libs")
    for folder in libraries.submodule_search_locations if libraries else ():
        for library in Path(folder).glob("libtensorrt_rtx.so.*"):
            (scratch / "libtensorrt_rtx.so").symlink_to(library)
            # No empty entry, which would stand for the current folder.
            paths = [str(scratch), *filter(None, [environment.get("LD_LIBRARY_PATH")])]
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(paths)
            break
    return environment
