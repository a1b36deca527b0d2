"""Worker processes that leave Ctrl-C to the process that started them, and end when it does."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def hold_signals() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the block ends, in which processes are started.

    What comes is raised where the block ends. Raised during a fork it would be printed and lost,
    and between the start of a process and what it is to be told, the process would fail.

    In a new process both stay blocked from its first instruction on: ignoring Ctrl-C there takes
    effect only after the imports, and until then each worker prints a traceback.
    ``allow_termination`` ends the wait of SIGTERM; Ctrl-C is for the process that started it.
    """
    held: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        # A mask is one thread's, and a signal takes any thread; Python handles it in this one.
        for number in _SIGNALS:
            if signal.getsignal(number) is not None:
                handlers[number] = signal.signal(number, lambda number, _: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        # Even if the block raised: workers that were ended with this process make it raise.
        if held:
            signal.raise_signal(held[0])


def allow_termination(*_: object) -> None:
    """First call in a worker process that was started under ``hold_signals``."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def end_with_parent() -> None:
    """End this worker process on SIGTERM, or when the one that started it is gone, even killed."""
    allow_termination()
    parent = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def map_in_processes(
    function: Callable, items: Iterable, workers: int, remedy: str
) -> Iterator[Iterable]:
    """``map`` in processes, which leave Ctrl-C to this one and are ended if the block raises.

    Results come in the order of ``items`` and are not kept. The processes are spawned, so
    ``function`` must be picklable, and a script that gets here must be guarded by
    ``if __name__ == "__main__"``.

    Raises ChildProcessError, whose message ends in ``remedy``, if a process was killed.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, end_with_parent) as pool:
        others, started = multiprocessing.active_children(), []
        try:
            with hold_signals():  # what they held back is raised where the block ends
                futures = deque(pool.submit(function, item) for item in items)
                started += [one for one in multiprocessing.active_children() if one not in others]
            yield (futures.popleft().result() for _ in range(len(futures)))
        except BaseException as error:
            for process in started:
                process.terminate()
            if isinstance(error, BrokenProcessPool):
                raise ChildProcessError(
                    f"a worker process was killed, perhaps for want of memory; {remedy}"
                ) from error
            raise
