"""Training on two ranks that torchrun starts (gloo, CPU)."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lesionkit.errors import InputError
from lesionkit.models import load_detector
from lesionkit.training import loop
from lesionkit.training.distributed import start
from lesionkit.training.order import epoch_batches, rank_batches, sampling_seed

from . import ranks


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The folder that two ranks wrote, how torchrun ended and when."""
    out = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    done = subprocess.run(
        [*command, "-m", "tests.training.ranks", out],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (out / "killed").exists(), done.stderr
    return out, done, time.time()


def test_gradients_are_those_of_one_process(job):
    out, *_ = job
    alone = ranks.gradients()
    for rank in (0, 1):
        found = load_file(out / f"gradients-{rank}.safetensors")
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            assert (found[name] - value).abs().max() <= 1e-6, name
    assert max(value.abs().max() for value in alone.values()) > 0.1


def test_froc_is_identical_on_every_rank_and_in_one_process(job):
    out, *_ = job
    alone = ranks.froc()
    assert len(alone["curve_score"]) > 10
    for rank in (0, 1):
        found = load_file(out / f"froc-{rank}.safetensors")
        assert all(torch.equal(found[name], value) for name, value in alone.items())


def test_training_is_that_of_one_process_and_rank_0_writes(job, tmp_path):
    out, *_ = job
    assert not (out / "trained-1").exists()
    alone = ranks.training(tmp_path)
    files = {path.name for path in (out / "trained-0").iterdir()}
    assert files == {path.name for path in tmp_path.iterdir()}
    assert len(list((out / "trained-0" / "tensorboard").iterdir())) == 1
    lines, expected = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (out / "trained-0", tmp_path)
    )
    for line, other in zip(lines, expected, strict=True):
        assert line == pytest.approx(other, abs=1e-5)
    found, other = load_file(out / "trained-0/weights.safetensors"), load_file(alone.weights)
    assert max(float((found[name] - other[name]).abs().max()) for name in other) < 1e-6


def test_a_killed_rank_ends_the_job_soon(job):
    out, done, ended = job
    assert done.returncode != 0
    assert ended - float((out / "killed").read_text()) < 60
    load_detector(out / "die" / "last.safetensors")


@pytest.fixture
def four_ranks(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    for name, value in {"RANK": 1, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 4}.items():
        monkeypatch.setenv(name, str(value))


def test_ranks_choose_their_own_device(four_ranks):
    with pytest.raises(InputError, match="device cuda:1: torchrun gives every process its own"):
        start("cuda:1", "32-true")
    with pytest.raises(InputError, match="torchrun started 4 processes here, but PyTorch sees 2"):
        start("cuda", "32-true")


def test_a_batch_is_shared_evenly():
    with pytest.raises(InputError, match=r"batch_size 4 must be a multiple of the 3 .* use 6"):
        loop._batch_size(ranks.CONFIG, 9, 3)
    assert loop._batch_size(ranks.CONFIG, 9, 2) == 4


def test_order_of_samples():
    first, again, other = (epoch_batches(11, 4, 3, epoch) for epoch in (1, 1, 2))
    assert first == again != other
    assert [len(batch) for batch in first] == [4, 4]  # three are left over
    assert len({index for batch in first for index in batch}) == 8
    parts = [rank_batches(first, rank, 2) for rank in (0, 1)]
    assert [a + b for a, b in zip(*parts, strict=True)] == first
    seeds = {sampling_seed(*where) for where in ((3, 1, 0), (3, 1, 1), (3, 2, 0), (4, 1, 0))}
    assert len(seeds) == 4
