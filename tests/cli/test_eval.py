import json
import os
import subprocess
import sys

import pytest

from lesionkit.data import DeepLesion
from lesionkit.evaluation import froc
from lesionkit.inference import evaluate_dataset
from lesionkit.models import PRESETS, DetectorConfig, load_detector
from lesionkit.visualize.results import open_dataset, read_run

from .lk import assert_refused, lesionkit, tree

FILES = {"config.json", "curve.csv", "detections.json", "froc.png", "results.json"}


@pytest.fixture(scope="module")
def evaluated(trained, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("eval") / "out"
    code, printed, err = lesionkit(
        *("eval", "--weights", trained / "weights.safetensors", "--data", data, "--out", out),
        *("--split", "all", "--replicates", 20, "--workers", 1),
    )
    assert code == 0, err
    return out, printed


def test_result_folder(evaluated, trained, data):
    out, printed = evaluated
    assert {*tree(out)} == FILES
    results = json.loads((out / "results.json").read_text())
    dataset = DeepLesion(data)
    found = evaluate_dataset(load_detector(trained / "weights.safetensors"), dataset)
    measured = froc(found, [record.boxes for record in dataset])
    assert results["sensitivity"] == measured.sensitivity.tolist()
    assert results["mean_sensitivity"] == measured.mean
    assert (results["images"], results["lesions"]) == (len(dataset), measured.num_lesions)
    assert results["intervals"]["patients"] == 3
    assert {*results["groups"]} == {"type", "diameter", "interval"}
    assert str(measured) in printed
    assert str(out / "results.json") in printed
    config = json.loads((out / "config.json").read_text())
    assert config["arguments"]["split"] == "all"
    assert DetectorConfig.from_dict(config["detector"]) == PRESETS["tiny"]
    assert len(config["weights_sha256"]) == 64


def test_froc_reads_its_detections_and_measures_the_same(evaluated, data, tmp_path):
    out, _ = evaluated
    code, _, err = lesionkit(
        *("froc", "--detections", out / "detections.json", "--truth", data / "DL_info.csv"),
        *("--split", "all", "--replicates", 20, "--by", "type", "--by", "diameter"),
        *("--by", "interval", "--out", tmp_path / "froc"),
    )
    assert code == 0, err
    expected, again = (
        json.loads((folder / "results.json").read_text()) for folder in (out, tmp_path / "froc")
    )
    assert again == expected


def test_own_splits(trained, data, tmp_path):
    dataset = DeepLesion(data)
    path, out = tmp_path / "splits.csv", tmp_path / "out"
    path.write_text(f"file_name,split\n{dataset[0].file_name},test\n")
    code, _, err = lesionkit(
        *("eval", "--weights", trained / "weights.safetensors", "--data", data, "--out", out),
        *("--split-file", path, "--replicates", 0),
    )
    assert code == 0, err
    results = json.loads((out / "results.json").read_text())
    assert (results["images"], results["lesions"]) == (1, len(dataset[0].boxes))
    shown = open_dataset(read_run(out)).dataset
    assert [record.file_name for record in shown] == [dataset[0].file_name]


def test_torchrun_with_two_processes_writes_the_same_once(evaluated, trained, data, tmp_path):
    out, printed = evaluated
    result = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "-m", "lesionkit", "eval", "--data", data),
            *("--weights", trained / "weights.safetensors", "--out", tmp_path / "out"),
            *("--split", "all", "--replicates", "20", "--device", "cpu"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    for name in ("detections.json", "results.json", "curve.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (out / name).read_bytes()
    assert result.stdout.splitlines()[:-1] == printed.splitlines()[:-1]


@pytest.mark.parametrize(
    "options, words",
    [
        (["--split", "dev"], ["--split dev", "train, val, test, all"]),
        (["--split-file", "none.csv"], ["none.csv", "No such file"]),
        (["--data", "nowhere"], ["nowhere"]),
        (["--weights", "nowhere"], ["nowhere"]),
        (["--device", "tpu"], ["--device tpu"]),
        (["--workers", "-1"], ["--workers"]),
        (["--replicates", "-1"], ["--replicates"]),
    ],
)
def test_bad_input_writes_nothing(trained, data, tmp_path, options, words):
    out = tmp_path / "out"
    arguments = ["--weights", trained / "weights.safetensors", "--data", data, "--out", out]
    assert_refused(lesionkit("eval", *arguments, *options), *words)
    assert not out.exists()


def test_missing_slices_are_named(trained, data, tmp_path):
    (tmp_path / "DL_info.csv").write_bytes((data / "DL_info.csv").read_bytes())
    out = tmp_path / "out"
    result = lesionkit(
        *("eval", "--weights", trained / "weights.safetensors", "--data", tmp_path, "--out", out)
    )
    assert result[0] == 2
    assert ".png" in result[2].splitlines()[-1]
    assert not out.exists()


def test_existing_results_stay(evaluated, trained, data):
    out, _ = evaluated
    before = tree(out)
    result = lesionkit(
        *("eval", "--weights", trained / "weights.safetensors", "--data", data, "--out", out)
    )
    assert_refused(result, "--overwrite")
    assert tree(out) == before
