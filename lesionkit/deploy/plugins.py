"""The library of TensorRT plugins, and the registries that it is loaded into."""

from pathlib import Path
from types import ModuleType

from lesionkit.deploy.runtimes import load_runtime, log_of
from lesionkit.errors import InputError

LIBRARY = Path(__file__).parents[1] / "liblesionkit_tensorrt.so"
# Opened with dlopen alone, as by Triton Inference Server, it has the other one registered.
REGISTER = LIBRARY.with_name("liblesionkit_tensorrt_register.so")
NAMESPACE = "lesionkit"
PLUGINS = ("ContextualAttention", "DualAttention", "PSRoIPool", "SpatialAttention")


def why_no_library() -> str | None:
    """Why there is no library of plugins; None if there is one."""
    if LIBRARY.exists():
        return None
    return (
        f"{LIBRARY.name} is not built; set TENSORRT_INCLUDE_DIR to the folder that holds "
        "TensorRT's NvInfer.h, and install lesionkit from source again, with nvcc on the PATH"
    )


def registered_plugins(trt: ModuleType) -> list[str]:
    """The plugins in lesionkit's namespace that a runtime knows, by name."""
    creators = trt.get_plugin_registry().all_creators
    return sorted({c.name for c in creators if c.plugin_namespace == NAMESPACE})


def load_plugins(runtime: str = "auto") -> list[str]:
    """Register lesionkit's plugins with TensorRT; again is no fault.

    To be called before a graph of the plugin form is parsed and before its plan is loaded, as
    ``build_engine`` and ``Engine`` do themselves.

    Args:
        runtime: "auto", "tensorrt", "tensorrt_rtx" or "tensorrt_lean".

    Returns:
        The names of the plugins that are registered now, in the namespace "lesionkit".

    Raises InputError: no such runtime, or no library of plugins; the message says what to do.
    """
    trt = load_runtime(runtime, "get_plugin_registry")
    if not {*PLUGINS} <= {*registered_plugins(trt)}:
        problem = why_no_library()
        if problem is not None:
            raise InputError(f"TensorRT plugins: {problem}")
        trt.get_plugin_registry().load_library(str(LIBRARY))
    names = registered_plugins(trt)
    if missing := sorted({*PLUGINS} - {*names}):
        raise InputError(
            f"TensorRT plugins: {trt.__name__} {trt.__version__} does not take "
            f"{', '.join(missing)} from {LIBRARY}: {'; '.join(log_of(trt).take())}; install "
            "lesionkit from source again, and load no other version of its plugins"
        )
    return names
