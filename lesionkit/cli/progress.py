"""Progress on standard error: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_SECONDS = 5.0


@contextmanager
def progress(label: str) -> Iterator[Callable[..., None]]:
    """Yield a function to call with (done, total) or (done, total, note)."""
    show = _bar if sys.stderr.isatty() else _lines
    with show(label) as update:
        yield update


@contextmanager
def _bar(label: str) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None, note="")

        def update(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield update


@contextmanager
def _lines(label: str) -> Iterator[Callable[..., None]]:
    start = last = time.monotonic()
    finished = False  # the end is worth a line at once, but only one: work may go on after it
    first = None  # what was done when, from which the rest is reckoned: work may be resumed
    print(f"{label} ...", file=sys.stderr, flush=True)

    def update(done: int, total: int, note: str = "") -> None:
        nonlocal last, finished, first
        now = time.monotonic()
        first = first or (done, now)
        if (done == total and not finished) or now - last >= LINE_SECONDS:
            last, finished = now, done == total
            line = f"{label}: {done}/{total}, {now - start:.0f} s"
            if first[0] < done < total:
                left = (now - first[1]) / (done - first[0]) * (total - done)
                line += f", {left:.0f} s left"
            print(line + (f", {note}" if note else ""), file=sys.stderr, flush=True)

    yield update
