"""Plans on disk: a serialized engine, and beside it a JSON file that says what it is."""

import hashlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from lesionkit.deploy.plugins import load_plugins, why_no_library
from lesionkit.deploy.runtimes import LEAN, create, log_of
from lesionkit.errors import InputError
from lesionkit.files import atomic_write, reading

_REMEDY = "build it again on this machine with lesionkit export --format tensorrt"
_MAKE = "make a plan with lesionkit export --format tensorrt"
_NOTED = {  # in a description: the type of each, and what stands for one that is missing
    "bytes": (int, None),
    "sha256": (str, ""),
    "runtime": (str, ""),
    "version": (str, ""),
    "compute_capability": (list | None, None),
    "batch": (list, []),
    "plugin_layers": (list, []),
    "detector": (dict, {}),
}
_DIAGNOSES = {
    "VERSION_MISMATCH": "it is from another version of TensorRT",
    "UNSUPPORTED_CC": "it was not built for this GPU",
    "OLD_CUDA_DRIVER": "the GPU's driver is too old; update the driver",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old; update it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory",
    "MALFORMED_ENGINE": "it is no plan, or a damaged one",
    "CUDA_ERROR": "CUDA does not work on this machine; `lesionkit doctor` says more",
}


def description_path(plan: Path) -> Path:
    """The JSON file of a plan: detector.plan.json beside detector.plan."""
    return plan.with_name(f"{plan.name}.json")


def write_description(plan: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Write the JSON file of a finished plan: what is said ``about`` it, its size and SHA-256."""
    with open(plan, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    about = {**about, "bytes": plan.stat().st_size, "sha256": digest}
    with atomic_write(description_path(plan)) as path:
        path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return about


def read_description(plan: Path) -> dict[str, Any]:
    """What the JSON file of a plan says; empty if there is none, as for a plan of trtexec.

    Raises InputError if there is no plan, or that file describes something else.
    """
    with reading(plan, _MAKE):
        size = plan.stat().st_size
        path = description_path(plan)
        if not path.exists():
            return {}
    remedy = "move it away, or export the plan again"
    with reading(path, remedy):
        content = path.read_bytes()
    try:
        about = json.loads(content)
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict) or not all(
        isinstance(about.get(key, missing), kind) for key, (kind, missing) in _NOTED.items()
    ):
        raise InputError(f"{path}: does not describe a plan; {remedy}")
    if about["bytes"] != size:
        raise InputError(
            f"{plan}: has {size} bytes, but {about['bytes']} by {path.name}: it is truncated or "
            "another plan; copy both files again, or export them anew"
        )
    return about


def capability_of(device: Any) -> int:
    """Compute capability of a CUDA device as one number, such as 90."""
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def load_plan(trt: ModuleType, plan: Path, about: dict[str, Any], capability: int | None) -> Any:
    """The ``ICudaEngine`` of a plan, on the current CUDA device.

    Args:
        trt: the runtime's module.
        plan: the file.
        about: what :func:`read_description` gave for it.
        capability: compute capability of the current device, such as 90, for error messages.

    Raises InputError, which says why TensorRT does not take the file and what to do.
    """
    # Nobody knows what a plan without description needs, such as one of trtexec.
    guess = not about and why_no_library() is None and hasattr(trt, "get_plugin_registry")
    if about.get("plugin_layers") or guess:
        load_plugins(trt.__name__)
    log = log_of(trt)
    log.take()
    runtime = create(trt, "Runtime")
    with reading(plan, _MAKE):
        serialized = plan.read_bytes()
    engine = runtime.deserialize_cuda_engine(serialized)
    if engine is None:
        reason = log.take()[0]  # before the runtime is asked again, which it logs too
        why = _why_not(trt, runtime, serialized, about, capability, reason)
        raise InputError(f"{plan}: {'; '.join(why)}. {trt.__name__} {trt.__version__}: {reason}")
    return engine


def _why_not(
    trt: ModuleType,
    runtime: Any,
    serialized: bytes,
    about: dict,
    capability: int | None,
    reason: str,
) -> list[str]:
    """What is wrong with a plan that was refused, from what is known about it."""
    if any(word in reason.lower() for word in ("plugin", "creator")):
        return [
            "it has a plugin that is not registered; `lesionkit doctor` says which are, and "
            "lesionkit.deploy.load_plugins() registers lesionkit's"
        ]
    if any(word in reason for word in ("cudaError", "CUDA initialization")):
        return [_DIAGNOSES["CUDA_ERROR"]]
    found = []
    if "sha256" in about and hashlib.sha256(serialized).hexdigest() != about["sha256"]:
        found.append("it is damaged: its bytes are not those that were written")
    if hasattr(runtime, "get_engine_validity"):
        _, bits = runtime.get_engine_validity(serialized)
        diagnostics = trt.EngineInvalidityDiagnostics.__members__.items()
        found += [
            _DIAGNOSES.get(name, name.lower()) for name, bit in diagnostics if int(bits) & int(bit)
        ]
    version = about.get("version", trt.__version__)
    if version != trt.__version__:
        maker = about.get("runtime", "TensorRT")
        found.append(f"it was built by {maker} {version}, and this is {trt.__version__}")
    built_for = about.get("compute_capability")
    if built_for and capability is not None and capability not in built_for:
        names = ", ".join(f"SM{number}" for number in built_for)
        found.append(f"it was built for {names}, and this GPU is SM{capability}")
    if not hasattr(trt, "Builder"):
        found.append(f"{trt.__name__} runs {LEAN}; take another runtime")
    if not found and "Serialization" in reason:
        found.append("it is no plan of this runtime, or a damaged one")
    return [*(found or ["it is damaged, or not for this runtime, version or GPU"]), _REMEDY]
