"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

from lesionkit.data.synthetic import MAX_PATIENTS, MIN_PATIENTS
from lesionkit.errors import InputError

MAX_SEED = 2**32 - 1  # NumPy's and PyTorch's generators take no more


def folder(text: str | Path) -> Path:
    """The folder of --out: an empty text is a variable that is not set, not the folder here."""
    if not str(text).strip():
        raise typer.BadParameter("must name a folder")
    return Path(text)


def _multiple_of_8(size: int) -> int:
    if size % 8:
        raise typer.BadParameter("must be a multiple of 8")
    return size


Out = Annotated[
    Path,
    typer.Option("--out", help="Folder for the results.", show_default=False, parser=folder),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the results of an earlier run in --out.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=MAX_SEED, help="Of every random choice.")]
Patients = Annotated[
    int,
    typer.Option(
        "--patients",
        min=MIN_PATIENTS,
        max=MAX_PATIENTS,
        help="Synthetic patients, at least one a split.",
    ),
]
ImageSize = Annotated[
    int,
    typer.Option(
        "--image-size",
        min=64,
        max=1024,
        callback=_multiple_of_8,
        help="Pixels a side, a multiple of 8.",
    ),
]


def check_outside(out: Path, scan: Path) -> None:
    """Raise InputError if results would go into the scan, where the next reader finds them."""
    if scan.is_dir() and out.resolve().is_relative_to(scan.resolve()):
        raise InputError(f"--out {out}: lies in the scan's folder {scan}; name one outside of it")


def choose_device(name: str) -> str:
    """ "cpu", "cuda" or "cuda:N".

    Raises InputError for a device that is not there, or that the chosen backend cannot run on.
    """
    import torch

    from lesionkit.ops import backends

    device = _present_device(name)
    try:
        backends.resolve(torch.empty(0, device=device))
    except RuntimeError as error:
        raise InputError(f"--device {name}: {error}") from None
    return device


def _present_device(name: str) -> str:
    import torch

    kind, _, index = name.partition(":")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return name
    if kind != "cuda" or (index and not index.isdecimal()) or name.endswith(":"):
        raise InputError(f"--device {name}: must be auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count()
    if int(index or 0) >= count:
        raise InputError(f"--device {name}: PyTorch sees {count} CUDA devices; use --device cpu")
    return name


def limit_threads(backbone: str) -> None:
    """One CPU thread for the small backbone, whose maps hardly fill two.

    Where another process wants a core, two threads are many times slower than one: OpenMP's
    threads wait for each other by spinning.
    """
    import torch

    if backbone == "small":
        torch.set_num_threads(1)
