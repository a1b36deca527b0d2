"""Detector weights in safetensors files, which hold numbers only and cannot run code."""

import json
import mmap
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lesionkit.errors import InputError
from lesionkit.files import atomic_write, reading
from lesionkit.models.config import DetectorConfig
from lesionkit.models.detector import LesionDetector
from lesionkit.version import __version__

FORMAT = "lesionkit-detector-1"
_BESIDE = "training."
_PICKLE_MAGIC = (b"PK\x03\x04", b"\x80")  # torch.save's zip; a bare pickle


def save_detector(
    model: LesionDetector,
    path: str | os.PathLike,
    metadata: dict[str, str] | None = None,
    beside: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write ``model``'s weights and config to ``path``, at once or not at all.

    ``metadata`` is kept in the file's header beside "format", "version" and "config" (JSON), and
    the tensors ``beside`` next to the weights, under names that begin with "training.".
    Raises FloatingPointError, and leaves an old file as it was, when a weight is not finite.
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
    if not isinstance(model, LesionDetector):
        raise TypeError(f"model must be a LesionDetector, got {type(model).__name__}")
    own = {
        "format": FORMAT,
        "version": __version__,
        "config": json.dumps(model.config.to_dict()),
    }
    metadata = metadata or {}
    if taken := own.keys() & metadata.keys():
        raise ValueError(f"metadata must not set {sorted(taken)}: the file's own fields")
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    if name := _not_finite(tensors):
        raise FloatingPointError(f"weights {name} are not finite; nothing is written to {path}")
    for name, value in (beside or {}).items():
        tensors[_BESIDE + name] = value.detach().cpu().contiguous()
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={**metadata, **own})
        _sort_metadata(temporary)


def load_detector(path: str | os.PathLike, device: str | torch.device = "cpu") -> LesionDetector:
    """The detector of a file that :func:`save_detector` wrote, in evaluation mode on ``device``.

    Raises InputError when the file is missing, a pickle (never opened: it could run code),
    truncated, not finite, or not the weights of the detector that its header describes.
    """
    path = Path(path)
    _refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as file:
            config = _read_config(path, file.metadata() or {})
            # Shapes are compared before memory is taken for what the header claims.
            try:
                with torch.device("meta"):
                    expected = LesionDetector(config).state_dict()
            except RuntimeError as error:
                raise InputError(f"{path}: absurd config in its header ({error})") from None
            _check_shapes(path, expected, file)
            weights = {name: file.get_tensor(name) for name in expected}
    except SafetensorError as error:
        raise InputError(
            f"{path}: damaged or not a safetensors file ({error}); copy or download it again"
        ) from None
    model = LesionDetector(config)
    model.load_state_dict(weights)
    if name := _not_finite(model.state_dict()):
        raise InputError(
            f"{path}: {name} holds values that are not finite in float32; a detector with them "
            "finds nothing; take weights of a training that did not diverge"
        )
    return model.to(device).eval()


def load_beside(path: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the metadata that :func:`save_detector` kept beside the weights.

    Raises InputError as :func:`load_detector` does.
    """
    path = Path(path)
    _refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(_BESIDE)]  # noqa: SIM118
            tensors = {name.removeprefix(_BESIDE): file.get_tensor(name) for name in names}
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise InputError(
            f"{path}: damaged or not a safetensors file ({error}); copy or download it again"
        ) from None


def _sort_metadata(path: Path) -> None:
    """Put the metadata in the header in order; safetensors writes them in a random one."""
    with open(path, "r+b") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > size:
            raise RuntimeError(f"{path}: header of {len(text)} bytes in place of {size}")
        stream.seek(8)
        stream.write(text.ljust(size))


def _not_finite(tensors: dict[str, torch.Tensor]) -> str | None:
    """The name of a tensor with a NaN or an infinity in it."""
    return next((name for name, value in tensors.items() if not value.isfinite().all()), None)


def _refuse_pickle(path: Path) -> None:
    with (
        reading(path, "give a .safetensors file of weights"),
        open(path, "rb") as stream,
        # As safe_open reads them; not every file can be mapped.
        mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as content,
    ):
        head = content[:9]
    # A safetensors file begins with the length of its header, which may look like a pickle.
    if head.startswith(_PICKLE_MAGIC) and head[8:] != b"{":
        raise InputError(
            f"{path}: a pickle (torch.save), which can run code when opened; "
            "give weights written by lesionkit, a .safetensors file"
        )


def _read_config(path: Path, metadata: dict[str, str]) -> DetectorConfig:
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{path}: its header does not say format {FORMAT!r} (found "
            f"{metadata.get('format')!r}); give weights written by this version of lesionkit"
        )
    try:
        return DetectorConfig.from_dict(json.loads(metadata.get("config", "")))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: unusable config in its header ({error}); it was written by lesionkit "
            f"{metadata.get('version', 'of unknown version')}, this is {__version__}"
        ) from None


def _check_shapes(path: Path, expected: dict[str, torch.Tensor], file: safe_open) -> None:
    names = [name for name in file.keys() if not name.startswith(_BESIDE)]  # noqa: SIM118
    slices = {name: file.get_slice(name) for name in names}
    for name, part in slices.items():
        if part.get_dtype() not in ("F64", "F32", "F16", "BF16"):
            raise InputError(
                f"{path}: {name} is of type {part.get_dtype()}, not floating point; save the "
                "weights again with lesionkit"
            )
    found = {name: tuple(part.get_shape()) for name, part in slices.items()}
    wanted = {name: tuple(value.shape) for name, value in expected.items()}
    wrong = [
        f"{name} is {found.get(name, 'missing')}, expected {wanted.get(name, 'nothing')}"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]
    if wrong:
        raise InputError(
            f"{path}: not the weights of the detector in its header: {'; '.join(wrong[:3])}"
            f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}; save them again with "
            "lesionkit"
        )
