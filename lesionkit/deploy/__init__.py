"""The detector for other runtimes: ONNX files, TensorRT engines, Triton Inference Server."""

from importlib import import_module

_HOMES = {
    "Engine": "engine",
    "build_engine": "build",
    "export_onnx": "onnx",
    "load_plugins": "plugins",
    "read_metadata": "onnx",
    "write_triton_repository": "triton_repository",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'lesionkit.deploy' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"lesionkit.deploy.{_HOMES[name]}"), name)
    return value
