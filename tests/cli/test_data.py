import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from lesionkit.data import DeepLesion
from lesionkit.data.deeplesion import check as checking

from .lk import assert_refused, lesionkit, tree


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jpeg")
    for number in range(1, 5):
        name = f"00000{number}_01_01_007"
        grey = np.full((32, 32), 60 * number, np.uint8)
        Image.fromarray(grey).save(folder / f"{name}.jpg")
        (folder / f"{name}.tru").write_text("5 .1 .2 .3 .4\n")
    return folder


@pytest.fixture
def broken(data, tmp_path):
    """A copy of the synthetic data set by links, one series of which lacks a slice."""
    root = tmp_path / "broken"
    for folder in (data / "Images_png").iterdir():
        (root / "Images_png" / folder.name).mkdir(parents=True)
        for path in folder.iterdir():
            (root / "Images_png" / folder.name / path.name).symlink_to(path)
    (root / "DL_info.csv").symlink_to(data / "DL_info.csv")
    series = min((root / "Images_png").iterdir())
    min(series.iterdir()).unlink()
    return root


def test_a_whole_data_set(data, tmp_path):
    code, out, err = lesionkit("data", "check", data, "--out", tmp_path / "out")
    assert (code, "0 errors, 0 warnings" in out) == (0, True), out
    assert err.splitlines()[0] == f"checking {data} ..."
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["command"] == "data check"
    assert config["files"] == ["config.json", "report.json"]
    assert sorted(tree(tmp_path / "out")) == ["config.json", "report.json"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["problems"] == []
    assert sum(split["boxes"] for split in report["splits"].values()) > 3
    for name, split in report["splits"].items():
        assert f"{name:8}{split['patients']:>9}{split['images']:>9}" in out


def test_errors_give_exit_code_1(broken):
    code, out, _ = lesionkit("data", "check", broken)
    assert code == 1
    assert "error: missing: 000001_01_01: " in out
    assert "1 errors, 0 warnings" in out
    code, quick, _ = lesionkit("data", "check", broken, "--quick")
    assert code == 1
    assert "0 slices of" in quick


def test_an_interrupted_check_goes_on(broken, tmp_path, monkeypatch):
    out = tmp_path / "out"
    read = []
    check_series = checking.check_series

    def interrupted(series, quick):
        read.append(series.name)
        if len(read) == 3:
            raise KeyboardInterrupt
        return check_series(series, quick)

    monkeypatch.setattr(checking, "check_series", interrupted)
    code, _, err = lesionkit("data", "check", broken, "--out", out)
    assert code == 130
    assert "what was written so far is in" in err
    assert sorted(tree(out)) == ["unfinished/config.json", "unfinished/progress.json"]
    first, second, third = read
    code, shown, _ = lesionkit("data", "check", broken, "--out", out)
    assert code == 1
    # The first lacks a slice, so it is looked at again; the second was clean.
    assert read[3:5] == [first, third]
    assert second not in read[3:]
    assert sorted(tree(out)) == ["config.json", "report.json"]
    # The report is that of a check in one go.
    report = json.loads((out / "report.json").read_text())
    assert report == checking.check_deeplesion(broken).to_dict()
    assert_refused(lesionkit("data", "check", broken, "--out", out), "not empty", "--overwrite")
    assert lesionkit("data", "check", broken, "--out", out, "--overwrite")[1] == shown


def test_another_table_or_choice_starts_anew(broken, tmp_path, monkeypatch):
    state, read = tmp_path / "progress.json", []
    check_series = checking.check_series

    def noted(series, quick):
        read.append(series.name)
        return check_series(series, quick)

    monkeypatch.setattr(checking, "check_series", noted)
    checking.check_deeplesion(broken, state=state)
    everything, read[:] = read[:], []
    checking.check_deeplesion(broken, earlier=[state])
    assert read == everything[:1]  # the one with the missing slice
    table = (broken / "DL_info.csv").read_bytes()
    (broken / "DL_info.csv").unlink()
    (broken / "DL_info.csv").write_bytes(table + b"\n")
    splits = tmp_path / "splits.csv"
    splits.write_text("patient,split\n1,train\n2,train\n3,train\n")
    for options in ({}, {"quick": True}, {"split_file": splits}):
        read.clear()
        checking.check_deeplesion(broken, earlier=[state], **options)
        assert read == everything
    for damage in ("", "{", "[]", '{"key": 1}', '{"key": {}, "clean": 3}'):
        state.write_text(damage)
        read.clear()
        checking.check_deeplesion(broken, earlier=[state, tmp_path / "none"])
        assert read == everything


def test_a_killed_check_goes_on(data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    slow = (
        "import sys, time, lesionkit.data.deeplesion.check as c\n"
        "check, c.SAVE_SECONDS = c.check_series, 0.0\n"
        "def slow(series, quick):\n"
        "    time.sleep(0.2)\n"
        "    return check(series, quick)\n"
        "c.check_series = slow\n"
        "from lesionkit.cli.main import main\n"
        f"main(['data', 'check', {str(data)!r}, '--out', {str(out)!r}])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", slow], stderr=subprocess.DEVNULL)
    progress = out / "unfinished" / "progress.json"
    deadline = time.monotonic() + 60
    while not (progress.exists() and json.loads(progress.read_text())["clean"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    known, check_series = json.loads(progress.read_text())["clean"], checking.check_series

    def check(series, quick):
        assert series.name not in known
        return check_series(series, quick)

    monkeypatch.setattr(checking, "check_series", check)
    code, _, err = lesionkit("data", "check", data, "--out", out)
    assert code == 0, err
    monkeypatch.undo()
    assert sorted(tree(out)) == ["config.json", "report.json"]
    whole = checking.check_deeplesion(data)
    assert json.loads((out / "report.json").read_text()) == whole.to_dict()


def test_wrong_input(data, tmp_path):
    check = ("data", "check")
    assert_refused(lesionkit(*check, tmp_path), "DL_info.csv", "No such file")
    assert_refused(lesionkit(*check, tmp_path / "none"), "not a folder")
    assert_refused(lesionkit(*check, data, "--split", "dev"), "split must be one of", "dev")
    assert_refused(lesionkit(*check, data, "--workers", -1), "--workers")
    assert_refused(lesionkit(*check, data, "--split-file", tmp_path / "s.csv"), "s.csv")
    (tmp_path / "mine").write_text("x")
    assert_refused(lesionkit(*check, data, "--out", tmp_path), "not empty")
    assert_refused(lesionkit("data", "tidy"), "tidy")
    assert os.listdir(tmp_path) == ["mine"]


def test_convert(source, tmp_path):
    out = tmp_path / "out"
    code, shown, _ = lesionkit("data", "convert", source, "--out", out, "--test", 1, "--seed", 4)
    assert code == 0
    assert shown == f"3 train, 1 test images: {out}\n"
    assert len(DeepLesion(out, split="train")) == 3
    config = json.loads((out / "config.json").read_text())
    assert config["arguments"]["test"] == 1
    assert config["files"] == sorted(tree(out))
    assert lesionkit("data", "check", out)[0] == 0
    again = tmp_path / "again"
    lesionkit("data", "convert", source, "--out", again, "--test", 1, "--seed", 4)
    assert tree(out) == tree(again)
    assert_refused(lesionkit("data", "convert", source, "--out", out), "not empty")


def test_convert_refuses(source, tmp_path):
    out, convert = tmp_path / "out", ("data", "convert", source, "--out")
    assert_refused(lesionkit(*convert, out, "--test", 1, "--train", 1), "--train or --test")
    assert_refused(lesionkit(*convert, out, "--test", 9), "test must be 0..4")
    assert_refused(lesionkit(*convert, out, "--pixel-spacing", 0), "pixel_spacing must be")
    assert_refused(lesionkit("data", "convert", tmp_path, "--out", out), "no JPEG files")
    assert not out.exists()
