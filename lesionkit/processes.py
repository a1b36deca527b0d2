"""Worker processes that leave Ctrl-C to the process that started them."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hold_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends; processes started in the block never see it.

    A blocked signal stays blocked in a new process from its first instruction on. Ignoring it
    there takes effect only after the imports, and until then each worker prints a traceback.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
