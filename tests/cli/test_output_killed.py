"""What a run that was killed has left behind, and whose it is."""

import signal
import subprocess
import sys

from lesionkit.cli.output import check_output, result_folder

from .lk import tree

CONFIG = {"command": "test"}

KILLED = """
import os, pathlib, signal, sys
from lesionkit.cli.output import result_folder
with result_folder(pathlib.Path(sys.argv[1]), False, {"command": "test"}, ["x.txt", "sub/*/*.png"]) as folder:
    for name in ("x.txt", "sub/a/1.png", "sub/a/.2-abcd1234.png", ".x-abcd1234.txt", "sub/b/"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).mkdir() if name.endswith("/") else (folder / name).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""  # noqa: E501


def kill_a_run(out):
    code = subprocess.run([sys.executable, "-c", KILLED, out], check=False).returncode
    assert code == -signal.SIGKILL


def test_overwrite_removes_what_a_killed_run_has_left(tmp_path):
    kill_a_run(tmp_path)
    assert "unfinished/sub/a/1.png" in tree(tmp_path)
    new = {"x.txt": "1", "sub/c/3.png": "1"}
    names = ["x.txt", "sub/*/*.png"]
    check_output(tmp_path, False, "test", names)  # it is in nobody's way
    with result_folder(tmp_path, True, CONFIG, names) as folder:
        for name, text in new.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    assert {*tree(tmp_path)} == {"config.json", *new}
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "x.txt", "sub"}


def test_overwrite_keeps_what_is_not_of_the_killed_run(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    kill_a_run(out)
    mine = ["mine.txt", "sub/mine.png", "sub/a/mine.txt", "sub/a/deep/mine.png", ".x-mine.txt"]
    (out / "unfinished" / "sub" / "a" / "deep").mkdir()
    for name in mine:
        (out / "unfinished" / name).write_text("mine")
    elsewhere.mkdir()
    (elsewhere / "mine.png").write_text("mine")
    (out / "unfinished" / "sub" / "link").symlink_to(elsewhere)
    with result_folder(out, True, CONFIG, ["x.txt", "sub/*/*.png"]) as folder:
        (folder / "x.txt").write_text("1")
    kept = {f"unfinished/{name}" for name in mine}
    assert {*tree(out)} == {"config.json", "x.txt", *kept}
    assert {*tree(elsewhere)} == {"mine.png"}


def test_overwrite_leaves_a_run_at_work_alone(tmp_path):
    with result_folder(tmp_path, True, CONFIG, ["x.txt"]) as folder:
        (folder / "x.txt").write_text("at work")
        with result_folder(tmp_path, True, CONFIG, ["x.txt"]) as other:
            (other / "x.txt").write_text("first")
        assert (folder / "x.txt").read_text() == "at work"
    assert tree(tmp_path).keys() == {"config.json", "x.txt"}
    assert (tmp_path / "x.txt").read_text() == "at work"
