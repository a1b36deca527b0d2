"""Processes and devices: Lightning Fabric, alone or as one of torchrun's ranks."""

import os
from typing import TYPE_CHECKING

import torch

from lesionkit.errors import InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def rank() -> int:
    """Of this process, before anything is set up; 0 writes and reports, the others do not."""
    return _variable("RANK", 0)


def ranks() -> int:
    """How many processes torchrun has started in all; 1 without it."""
    return _variable("WORLD_SIZE", 1)


def local_ranks() -> int:
    """How many of them share this machine."""
    return _variable("LOCAL_WORLD_SIZE", 1)


def _variable(name: str, default: int) -> int:
    return int(os.environ.get(name, default)) if "TORCHELASTIC_RUN_ID" in os.environ else default


def start(device: str, precision: str) -> "Fabric":
    """The Fabric of this process; under torchrun it joins the others.

    Raises InputError for a device that the processes of this machine cannot share out.
    """
    from lightning_fabric import Fabric

    accelerator, _, index = device.partition(":")
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    options = {"accelerator": accelerator, **_precision(precision, accelerator)}
    if ranks() == 1:
        return Fabric(devices=[int(index)] if index else 1, **options)
    if index:
        raise InputError(
            f"device {device}: torchrun gives every process its own; use {accelerator} or auto"
        )
    if accelerator == "cuda" and local_ranks() > torch.cuda.device_count():
        raise InputError(
            f"torchrun started {local_ranks()} processes here, but PyTorch sees "
            f"{torch.cuda.device_count()} CUDA devices; start fewer, or use device cpu"
        )
    fabric = Fabric(
        devices=local_ranks(),
        num_nodes=ranks() // local_ranks(),
        strategy="ddp",
        **options,
    )
    fabric.launch()
    return fabric


def _precision(precision: str, accelerator: str) -> dict:
    if precision == "32-true":
        return {"precision": precision}
    from lightning_fabric.plugins import MixedPrecision

    class Mixed(MixedPrecision):
        def convert_input(self, data: object) -> object:
            # Autocast converts what it computes with. True boxes must not be: half precision
            # rounds a coordinate of 300 to whole pixels or worse.
            return data

    return {"plugins": Mixed(precision, accelerator)}
