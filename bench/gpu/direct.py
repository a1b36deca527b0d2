"""How to run the ops of one backend, in public or without autograd and checks around them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from lesionkit.ops import use_backend  # which registers them

NAMES = {name: f"{name}_attention" for name in ("contextual", "spatial", "dual")}
NAMES["psroi"] = "ps_roi_pool"
TEMPERATURES = {"contextual": (2.0,), "spatial": (3.0,), "dual": (2.0, 3.0)}


def op(name: str, backend: str, backward: bool = False) -> Callable:
    """The registered op; those that run from Python have namespaces of their own."""
    namespace = f"lesionkit_{backend}" if backend in ("triton", "nvrtc") else "lesionkit"
    full_name = NAMES[name] + ("_backward" if backward else "")
    return getattr(getattr(torch.ops, namespace), full_name).default


@contextmanager
def running(backend: str, mode: Callable[[], AbstractContextManager]) -> Iterator[None]:
    """Public ops run on `backend`, in torch.no_grad or another mode of autograd."""
    with use_backend(backend), mode():
        yield
