"""Ctrl-C, which a terminal sends to every process of a command, workers too; and being killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from .lk import lesionkit, tree

CACHE_NOTHING = (
    "import sys; from dataclasses import replace;"
    "from lesionkit.training import TRAINING_PRESETS as presets;"
    "presets['tiny'] = replace(presets['tiny'], cache_gib=0);"
    "from lesionkit.cli.main import main; raise SystemExit(main(sys.argv[1:]))"
)


def interrupt(program, arguments, begun, seconds, number=signal.SIGINT, kill=os.killpg):
    """Run, send a signal so many seconds after the line ``begun``; exit code and later lines.

    Waits until the workers, which hold standard error too, have ended.
    """
    command = [sys.executable, *program, *map(str, arguments)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that runs this in the background has it ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stderr:
        if line == f"{begun} ...\n":
            break
    time.sleep(seconds)
    kill(process.pid, number)
    out, err = process.communicate(timeout=120)
    assert out == ""
    # An interrupted import makes Python end itself by the signal, which shells call 130 too.
    code = 130 if process.returncode == -signal.SIGINT else process.returncode
    return code, [line for line in err.splitlines() if not line.startswith(begun)]


# Workers import for the first second or more, which is when they used to print tracebacks.
@pytest.mark.parametrize("seconds", [0.1, 0.4, 0.8, 3])
def test_synth_leaves_nothing_and_says_so_once(tmp_path, seconds):
    arguments = ("synth", "--out", tmp_path / "a" / "out", "--patients", 200)
    code, lines = interrupt(["-m", "lesionkit"], arguments, "synthetic CT", seconds)
    assert (code, lines) == (130, ["lesionkit: error: interrupted"])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("seconds", [0.1, 1])
def test_train_with_workers(data, tmp_path, seconds):
    arguments = ("train", "--data", data, "--out", tmp_path / "out", "--preset", "tiny")
    options = ("--epochs", 1000, "--workers", 2)
    code, lines = interrupt(["-c", CACHE_NOTHING], (*arguments, *options), "training", seconds)
    assert (code, len(lines)) == (130, 1)
    assert lines[0].startswith("lesionkit: error: interrupted")
    assert not (tmp_path / "out" / "weights.safetensors").exists()


@pytest.mark.parametrize("kill", [os.kill, os.killpg])
@pytest.mark.parametrize("seconds", [0.2, 3])
def test_synth_that_is_asked_to_end(tmp_path, seconds, kill):
    arguments = ("synth", "--out", tmp_path / "out", "--patients", 200)
    code, lines = interrupt(
        ["-m", "lesionkit"], arguments, "synthetic CT", seconds, signal.SIGTERM, kill
    )
    assert (code, lines) == (143, ["lesionkit: error: terminated"])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("kill", [os.kill, os.killpg])
def test_train_that_is_asked_to_end(data, tmp_path, kill):
    arguments = ("train", "--data", data, "--out", tmp_path / "out", "--preset", "tiny")
    options = ("--epochs", 1000, "--workers", 2)
    code, lines = interrupt(
        ["-c", CACHE_NOTHING], (*arguments, *options), "training", 2, signal.SIGTERM, kill
    )
    assert (code, len(lines)) == (143, 1)
    assert lines[0].startswith("lesionkit: error: terminated")


@pytest.mark.parametrize("seconds", [0.4, 4])
def test_workers_of_a_killed_synth_end_and_the_next_run_cleans_up(tmp_path, seconds):
    out = tmp_path / "out"
    arguments = ("synth", "--out", out, "--patients", 200)
    code, _ = interrupt(
        ["-m", "lesionkit"], arguments, "synthetic CT", seconds, signal.SIGKILL, os.kill
    )
    assert code == -signal.SIGKILL
    left = {*tree(out)}
    assert "unfinished/config.json" in left
    again = ("synth", "--out", out, "--patients", 3, "--image-size", 64, "--overwrite")
    assert lesionkit(*again)[0] == 0
    assert {path.name for path in out.iterdir()} == {"config.json", "DL_info.csv", "Images_png"}
