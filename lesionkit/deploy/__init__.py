"""The detector for other runtimes: ONNX files."""

from importlib import import_module

_HOMES = {"export_onnx": "onnx", "read_metadata": "onnx"}
__all__ = [*_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'lesionkit.deploy' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"lesionkit.deploy.{_HOMES[name]}"), name)
    return value
