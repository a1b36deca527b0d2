"""CT scans, DeepLesion, synthetic data and preprocessing.

Names are looked up on first use, so that ``import lesionkit.data`` loads none of the readers.
"""

from importlib import import_module

_HOME = {
    "CTVolume": "volume",
    "DL_INFO_COLUMNS": "deeplesion",
    "DeepLesion": "deeplesion",
    "KeySlice": "deeplesion",
    "Lesion": "deeplesion",
    "PixelTransform": "preprocess",
    "Preprocessing": "preprocess",
    "check_deeplesion": "deeplesion.check",
    "convert_jpeg": "deeplesion.jpeg",
    "prepare_key_slice": "preprocess",
    "prepare_sample": "preprocess",
    "prepare_volume_sample": "preprocess",
    "read_ct": "readers",
    "synthesize": "synthetic",
    "write_dl_info": "deeplesion",
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
