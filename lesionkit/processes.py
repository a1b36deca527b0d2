"""Worker processes that leave Ctrl-C to the process that started them, and end when it does."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait


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


def end_with_parent() -> None:
    """End this worker process as soon as the one that started it is gone, even if killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
