"""Finding lesions in whole scans and data sets, and writing what was found.

Names are looked up on first use, so that the command line's help loads no detector.
"""

from importlib import import_module

_HOME = {
    "Detection": "findings",
    "Finding": "findings",
    "ScanResults": "results",
    "collect_detections": "findings",
    "detect_sample": "detect",
    "detect_volume": "streaming",
    "evaluate_dataset": "detect",
    "long_axis_mm": "findings",
    "merge_detections": "findings",
    "write_results": "formats",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
