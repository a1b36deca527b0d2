"""Runs that are killed and resumed until they finish; for ``python -m``, with a folder.

One process imports everything and forks a child for each part of a run, so that a part costs
little. The process itself never computes a gradient, which autograd does not survive in a child.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch.utils.tensorboard import SummaryWriter  # noqa: F401 (before the forks)

import lesionkit.files
import lesionkit.models.weights
from lesionkit.models import PRESETS, load_detector
from lesionkit.training import TRAINING_PRESETS, scan_samples, train
from lesionkit.training.checkpoint import load_checkpoint

from .scans import BALL_BOX, ball_scan

KILLS = 20
CONFIG = replace(
    TRAINING_PRESETS["tiny"],
    epochs=3,
    batch_size=2,
    validate_every=2,
    shift=4,
    checkpoint_every=0,
)
AIMS = ("half", "whole", "renamed")


def part(out, samples, aim=None):
    """Fork a child that trains in ``out``; returns its process id and a pipe.

    With an aim (which save, which moment of it) the child says so there at that moment, and waits.
    """
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return child, read
    try:
        os.close(read)
        if aim:
            wait_in_saving(*aim, write)
        train("tiny", samples, out, CONFIG, samples, "cpu", resume=True)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def wait_in_saving(number, moment, pipe):
    """Stop the ``number``-th save of this process at a moment of :data:`AIMS`."""
    saves = []
    save_file, rename = lesionkit.models.weights.save_file, os.replace

    def wait():
        os.write(pipe, b"x")
        time.sleep(60)

    def save(tensors, path, metadata):
        saves.append(path)
        save_file(tensors, path, metadata=metadata)
        if len(saves) == number and moment == "half":
            os.truncate(path, os.path.getsize(path) // 2)
        if len(saves) == number and moment in ("half", "whole"):
            wait()

    def replace_and_wait(*paths):
        rename(*paths)
        if len(saves) == number and moment == "renamed":
            wait()

    lesionkit.models.weights.save_file = save
    lesionkit.files.os.replace = replace_and_wait


def end(child, pipe, seconds):
    """Kill a child after so many seconds, or at its aim if None; whether it had finished."""
    if seconds is None:
        os.read(pipe, 1)  # also returns when the child ends
    else:
        time.sleep(seconds)
    os.close(pipe)
    os.kill(child, signal.SIGKILL)  # it may be gone already, but it is still ours
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.WEXITSTATUS(status) == 0, "a part of the run failed"
    return True


def check_left(out):
    """What a killed run leaves can be loaded."""
    if not (out / "last.safetensors").exists():  # killed before there was anything to lose
        assert not (out / "weights.safetensors").exists()
        return -1
    if (out / "weights.safetensors").exists():
        load_detector(out / "weights.safetensors")
    return load_checkpoint(out / "last.safetensors").position.step


def events(out):
    found = []
    for path in out.glob("tensorboard/*"):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found.append((value.tag, event.step, value.tensor.float_val[0]))
    return sorted(found)


def check_equal(out, whole):
    """The finished run is the one that was never killed, bit for bit."""
    assert (out / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    a, b = (load_checkpoint(folder / "last.safetensors") for folder in (out, whole))
    assert (a.position, a.run, a.random) == (b.position, b.run, b.random)
    best = (load_file(folder / "weights.safetensors") for folder in (out, whole))
    for mine, other in (best, (a.weights, b.weights), (a.tensors, b.tensors)):
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert events(out) == events(whole) != []


def main(folder):
    torch.set_num_threads(1)
    choice = random.Random(0)
    scan = ball_scan()
    samples = scan_samples(
        scan, dict.fromkeys(range(2, 8), BALL_BOX), PRESETS["tiny"].preprocessing
    )
    samples.preload(1e9)
    begun = time.monotonic()
    whole = folder / "whole"
    assert end(*part(whole, samples), seconds=None)
    seconds = time.monotonic() - begun
    kills, runs, steps = [], 0, []
    while len(kills) < KILLS:
        out = folder / f"run-{runs}"
        while True:
            # Every other kill hits a save; the rest come at any moment.
            aim = (choice.randint(1, 4), choice.choice(AIMS)) if len(kills) % 2 else None
            late = None if aim else choice.uniform(0, seconds / 2)
            if end(*part(out, samples, aim), seconds=late):
                break
            kills.append(aim or late)
            steps.append(check_left(out))
        check_equal(out, whole)
        runs += 1
    print(json.dumps({"kills": len(kills), "runs": runs, "steps": steps, "seconds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
