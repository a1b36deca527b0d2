"""What worker processes add to memory over an epoch."""

import gc
import os
import re
from itertools import chain
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from lesionkit.data import DeepLesion, write_dl_info

from .files import row

# At DeepLesion's 32,735 rows a worker adds 3 MiB, and 43 if the rows are objects.
ROWS = 10_000


def private_bytes() -> int:
    """Memory of this process that it shares with no other."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * sum(map(int, re.findall(r"^Private_\w+: +(\d+) kB", text, re.MULTILINE)))


class Epoch(Dataset):
    """Each image's record, read as a sample's preparation does, and the worker's memory."""

    def __init__(self, records):
        self.records = records

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        record = self.records[index]
        assert self.records.read_slice(record, record.key_slice) is None  # there are no files
        boxes = record.boxes
        assert boxes.shape == (1, 4)
        return os.getpid(), private_bytes() if index % 320 == 0 else 0


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    root = tmp_path_factory.mktemp("full")
    write_dl_info(root / "DL_info.csv", [row("NUMBER_01_02_010.png")])
    header, line = (root / "DL_info.csv").read_text().splitlines()
    lines = [line.replace("NUMBER", f"{number:06d}") for number in range(ROWS)]
    (root / "DL_info.csv").write_text("\n".join([header, *lines]))
    return DeepLesion(root)


class Objects(list):
    """The same records as Python objects."""

    def read_slice(self, record, number):
        return None


def growth(records) -> float:
    """MiB that the worker process that grew most added over an epoch."""
    gc.collect()
    gc.freeze()  # the collector of a forked process would write to every object
    loader = DataLoader(Epoch(records), 64, num_workers=2, collate_fn=list)
    seen = {}
    for process, used in chain.from_iterable(loader):
        if used:
            seen.setdefault(process, []).append(used)
    gc.unfreeze()
    return max(max(used) - used[0] for used in seen.values()) / 2**20


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux alone counts so")
def test_memory_does_not_grow_over_an_epoch(records):
    assert len(records) == ROWS
    assert growth(records) < 5
    assert growth(Objects(records)) > 10
