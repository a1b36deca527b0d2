import csv
import json
import multiprocessing
import os
import socket

import numpy as np
import pytest
import torch

from lesionkit.data import DeepLesion, synthesize
from lesionkit.evaluation import froc
from lesionkit.inference import evaluate_dataset
from lesionkit.inference.shards import gather, joined_processes, own_indices
from lesionkit.models import PRESETS, LesionDetector, load_detector, save_detector


def test_one_process_does_all():
    with joined_processes() as rank:
        assert rank == 0
    assert own_indices(7) == range(7)
    assert gather("abc", 3) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="own must hold 3 results, got 2"):
        gather("ab", 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set of seven images, and weights."""
    folder = tmp_path_factory.mktemp("shards")
    synthesize(folder, 5, seed=2, image_size=64, workers=1)
    with open(folder / "DL_info.csv", newline="") as stream:
        header, *rows = csv.reader(stream)
    seven = list(dict.fromkeys(row[0] for row in rows))[:7]
    with open(folder / "DL_info.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([header, *(row for row in rows if row[0] in seven)])
    torch.manual_seed(0)
    save_detector(LesionDetector(PRESETS["tiny"]), folder / "weights.safetensors")
    return folder


@pytest.fixture(scope="module")
def alone(folder):
    """What one process finds, in one thread as torchrun's processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield evaluate_dataset(load_detector(folder / "weights.safetensors"), DeepLesion(folder))
    torch.set_num_threads(before)


def test_worker_processes_change_nothing(folder, alone):
    seen = []
    found = evaluate_dataset(
        load_detector(folder / "weights.safetensors"),
        DeepLesion(folder),
        lambda *done: seen.append(done),
        workers=2,
    )
    assert_same(found, alone)
    assert seen == [(i, 7) for i in range(1, 8)]


def share(folder, rank, port):
    """What one of torchrun's two processes does; here they are forked, which is quicker."""
    os.environ.update(
        {"TORCHELASTIC_RUN_ID": "x", "RANK": str(rank), "WORLD_SIZE": "2"},
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    seen = []
    model = load_detector(folder / "weights.safetensors")
    with joined_processes() as joined:
        found = evaluate_dataset(model, DeepLesion(folder), lambda *done: seen.append(done))
        labels = gather([f"{i} of {joined}" for i in own_indices(7)], 7)
    found = [{name: value.tolist() for name, value in entry.items()} for entry in found]
    (folder / f"rank{rank}.json").write_text(json.dumps([found, labels, seen]))


def test_two_processes_with_uneven_shares_find_what_one_finds(folder, alone):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=share, args=(folder, rank, port)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    truth = [record.boxes for record in DeepLesion(folder)]
    expected = froc(alone, truth)
    assert sum(len(entry["boxes"]) for entry in alone) > 7
    for rank, own in ((0, 4), (1, 3)):
        found, labels, seen = json.loads((folder / f"rank{rank}.json").read_text())
        assert_same(found, alone)
        assert labels == [f"{i} of {i % 2}" for i in range(7)]
        assert seen == [[i, own] for i in range(1, own + 1)]
        np.testing.assert_array_equal(froc(found, truth).sensitivity, expected.sensitivity)


def assert_same(found, expected):
    assert len(found) == len(expected)
    for entry, other in zip(found, expected, strict=True):
        for name in ("boxes", "scores"):
            np.testing.assert_array_equal(np.asarray(entry[name], np.float32), other[name])
