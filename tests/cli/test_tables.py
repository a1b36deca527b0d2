import csv
import json
import shutil

import pytest

from .lk import assert_refused, lesionkit, tree

ARGUMENTS = (
    "--data",
    "synthetic",
    "--patients",
    3,
    "--image-size",
    64,
    "--table",
    3,
    "training.epochs=1",
)


@pytest.fixture(scope="module")
def ablation(tmp_path_factory):
    """Table 3 on the smallest data set; how good they get is measured on the real thing."""
    out = tmp_path_factory.mktemp("tables") / "out"
    code, stdout, err = lesionkit("tables", "--out", out, *ARGUMENTS, "--jobs", 1)
    assert code == 0, err
    assert "4/4 3dce_cs_att-15-slices-seed-23, training" in err
    return out, stdout


def rows(out):
    with open(out / "tables" / "table3.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_tables_and_runs_are_written(ablation):
    out, stdout = ablation
    assert set(tree(out / "tables")) == {"config.json", "table3.md", "table3.csv", "table3.png"}
    assert (out / "tables" / "table3.md").read_text().strip() in stdout
    assert {row["detector"] for row in rows(out) if row["sensitivity"]} == {
        *("3DCE", "3DCE + C_Att", "3DCE + S_Att", "3DCE_CS_Att")
    }
    runs = {folder.name: folder for folder in (out / "runs").iterdir()}
    assert len(runs) == 4
    config = json.loads((runs["3dce_s_att-15-slices-seed-23"] / "config.json").read_text())
    assert (config["detector"]["contextual"], config["detector"]["spatial"]) == (False, True)
    assert config["detector"]["preprocessing"]["num_images"] == 5
    assert config["training"]["epochs"] == 1


def test_what_is_finished_is_not_done_again(ablation):
    """Only the runs that are missing, side by side in processes now; the results are the same."""
    out, _ = ablation
    before, kept = _results(out), {}
    for folder in (out / "runs").iterdir():
        if "_att" in folder.name and "cs_att" not in folder.name:
            shutil.rmtree(folder)
        else:
            kept[folder] = (folder / "weights.safetensors").stat().st_mtime_ns
    assert len(kept) == 2
    code, _, err = lesionkit("tables", "--out", out, *ARGUMENTS, "--overwrite")
    assert code == 0, err
    assert "trainings, 2 at a time: 2/2" in err
    assert _results(out) == before
    for folder, stamp in kept.items():
        assert (folder / "weights.safetensors").stat().st_mtime_ns == stamp


def _results(out):
    """What does not depend on the process: safetensors writes its header in no fixed order."""
    return {name: content for name, content in tree(out).items() if "safetensors" not in name}


def test_finished_runs_are_taken(ablation, tmp_path):
    """A folder with detections, and one of a training alone, which is tested."""
    out, _ = ablation
    tested = out / "runs" / "3dce-15-slices-seed-23"
    trained = tmp_path / "trained"
    shutil.copytree(out / "runs" / "3dce_cs_att-15-slices-seed-23", trained)
    (trained / "detections.json").unlink()
    code, stdout, err = lesionkit(
        *("tables", "--out", tmp_path / "out", "--data", out / "data", "--table", 3),
        *("--run", tested, "--run", trained),
    )
    assert code == 0, err
    assert "training" not in err
    of_all = {(row["detector"], row["fp_per_image"]): row for row in rows(out)}
    for row in rows(tmp_path / "out"):
        if row["sensitivity"]:
            wanted = of_all[row["detector"], row["fp_per_image"]]
            assert (row["sensitivity"], row["low"]) == (wanted["sensitivity"], wanted["low"])
    assert "| 3DCE + C_Att | 15 | - |" in stdout


def test_runs_that_no_table_has(ablation, tmp_path):
    out, _ = ablation
    run = out / "runs" / "3dce-15-slices-seed-23"
    arguments = ("tables", "--out", tmp_path / "out", "--data", out / "data", "--run", run)
    result = lesionkit(*arguments, "--table", 1, "--slices", 21)
    assert_refused(result, "no run is a row", "[3, 21] slices")
    assert_refused(lesionkit(*arguments, "training.epochs=1"), "training.epochs=1", "--run")
    assert not (tmp_path / "out").exists()


def test_another_config_is_refused(ablation):
    out, _ = ablation
    result = lesionkit("tables", "--out", out, *ARGUMENTS[:-1], "training.epochs=2", "--overwrite")
    assert_refused(result, "training.epochs = 1", "name another --out")
    result = lesionkit("tables", "--out", out, "--data", "synthetic", "--overwrite")
    assert_refused(result, "'patients': 3", "name another --out")
    assert_refused(lesionkit("tables", "--out", out, *ARGUMENTS), "--overwrite")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--data", "synthetic", "--image-size", 100), ("--image-size", "multiple of 8")),
        (("--data", "/nowhere"), ("/nowhere",)),
        (("--data", "synthetic", "--slices", 12), ("--slices 12", "odd")),
        (("--data", "synthetic", "--table", 4), ("--table",)),
        (("--data", "synthetic", "training.epoch=1", "--patients", 3), ("training.epochs",)),
    ],
)
def test_bad_input_trains_nothing(tmp_path, arguments, words):
    out = tmp_path / "out"
    assert_refused(lesionkit("tables", "--out", out, *arguments), *words)
    assert not out.exists()


def test_folders_that_are_no_runs(tmp_path, data):
    (tmp_path / "empty").mkdir()
    arguments = ("tables", "--out", tmp_path / "out", "--data", data, "--run")
    assert_refused(lesionkit(*arguments, tmp_path / "empty"), "config.json")
    assert_refused(lesionkit(*arguments, tmp_path / "absent"), "config.json")
