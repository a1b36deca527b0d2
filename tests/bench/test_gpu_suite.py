"""What of the GPU suite can be tested without a GPU: how it measures, reports and keeps results."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.gpu import report, timing
from bench.gpu_suite import MEASURES, measure, save

ROOT = Path(__file__).parents[2]


def row(implementation, microseconds, **more):
    return {
        "op": "spatial",
        "shape": [1, 3, 2, 8, 8],
        "dtype": "float32",
        "direction": "forward",
        "implementation": implementation,
        "microseconds": microseconds,
    } | more


def result(date="2020-01-01", **parts):
    run = {"device": "Some GPU 80GB", "torch": "2.11", "cupy": None, "date": date}
    return {"device": run["device"]} | {name: {"run": run} | part for name, part in parts.items()}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_says_that_there_is_no_gpu():
    command = [sys.executable, "-m", "bench.gpu_suite"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 3
    assert "needs a CUDA device" in finished.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="a dry run is of the CPU")
@pytest.mark.parametrize("part", MEASURES)
def test_every_measure_runs(part):
    measured = measure(part, seconds=600, small=True)
    assert measured["complete"]
    rows = [row for row in measured["rows"] if row["direction"] != "host"]
    assert {row["implementation"] for row in rows} >= {"cpu"}
    assert {row["dtype"] for row in rows} == {"float32", "float16", "bfloat16"}
    assert all("error" not in row and row["microseconds"] > 0 for row in rows)
    assert report.markdown(result(**{part: measured})).count("\n| [1, ") == 6


def test_time_that_is_up_leaves_a_part_incomplete():
    measured = measure("spatial", seconds=0, small=True)
    assert not measured["complete"]
    assert len(measured["rows"]) == 1
    assert "Not complete" in report.markdown(result(spatial=measured))


def test_table_compares_the_fastest_of_both():
    group = [
        row("cuda", 10.0, fraction_of_copy=0.95, peak_bytes=45),
        row("triton", 12.5, fraction_of_copy=0.75, peak_bytes=50),
        row("compiled, collapsed", 15.0, peak_bytes=60),
        row("eager, the paper's steps", 40.0, peak_bytes=100),
        row("nvrtc", None) | {"error": "no CuPy"},
    ]
    del group[-1]["microseconds"]
    text = report.markdown(result(spatial={"rows": group, "complete": True}))
    (line,) = [line for line in text.splitlines() if line.startswith("| [1")]
    assert "cuda 10.0 (0.95); triton 12.5 (0.75)" in line
    assert "compiled, collapsed 15.0 | 1.50 | 0.45 of eager |" in line
    assert "nvrtc: no CuPy" in line


def test_results_keep_the_parts_that_did_not_run(tmp_path):
    save(
        result(spatial={"rows": [row("cuda", 1.0, fraction_of_copy=1)], "complete": True}), tmp_path
    )
    save(result(dual={"rows": [], "complete": True}, date="2021-01-01"), tmp_path)
    saved = json.loads((tmp_path / "Some_GPU_80GB.json").read_text())
    assert saved["spatial"]["rows"][0]["microseconds"] == 1.0
    assert saved["spatial"]["run"]["date"] == "2020-01-01"
    table = (tmp_path / "Some_GPU_80GB.md").read_text()
    assert "Measured with device Some GPU 80GB, torch 2.11, date 2020-01-01." in table
    assert "date 2021-01-01" in table
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md"}


def test_sets_of_inputs_together_pass_the_cache(monkeypatch):
    class Properties:
        L2_cache_size = 50 << 20

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    for megabytes in (1, 4, 10, 100, 1000):
        sets = timing.num_sets(megabytes << 20)
        assert 2 <= sets <= 64
        assert sets * megabytes >= min(200, 64 * megabytes)
