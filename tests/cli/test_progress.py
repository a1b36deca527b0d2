import sys

from lesionkit.cli import progress as module
from lesionkit.cli.progress import progress


def test_lines_where_there_is_no_terminal(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress("work") as update:
        for done in range(1, 8):
            now[0] += 2.0
            update(done, 7, "note" if done > 3 else "")
    assert capsys.readouterr().err.splitlines() == [
        "work ...",
        "work: 3/7, 6 s, 8 s left",
        "work: 6/7, 12 s, 2 s left, note",
        "work: 7/7, 14 s, note",
    ]


def test_work_that_goes_on_after_the_last_step(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress("work") as update:
        update(3, 3)
        for done in range(8):
            now[0] += 1.0
            update(3, 3, f"validating {done}/8")
    assert capsys.readouterr().err.splitlines() == [
        "work ...",
        "work: 3/3, 0 s",
        "work: 3/3, 5 s, validating 4/8",
    ]


def test_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("work") as update:
        update(3, 7, "note")
    shown = capsys.readouterr().err
    assert "3/7" in shown
    assert "note" in shown
