"""Many scans in one run."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lesionkit.cli.worklist import folder_names, read_worklist
from lesionkit.errors import InputError

from .lk import assert_refused, lesionkit, tree

FILES = {"config.json", "detections.csv", "detections.json", "findings.csv", "overlay.png"}


@pytest.fixture(scope="module")
def scans(series, tmp_path_factory):
    """Two small volumes of one name in two folders, and a file that is no scan."""
    sitk = pytest.importorskip("SimpleITK")
    folder = tmp_path_factory.mktemp("scans")
    hu = np.random.default_rng(0).integers(-1000, 300, (3, 64, 64)).astype(np.int16)
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((2.0, 2.0, 5.0))
    for name in ("a", "b"):
        (folder / name).mkdir()
        sitk.WriteImage(image, folder / name / "ct.nii.gz")
    (folder / "broken.nii").write_text("no scan")
    return folder


def search(trained, out, *arguments):
    weights = ["--weights", trained / "weights.safetensors"]
    return lesionkit("detect", *arguments, *weights, "--out", out, "--score-threshold", 0.01)


def summary(out):
    content = json.loads((out / "summary.json").read_text())
    assert content["format"] == "lesionkit-worklist-1"
    return {entry["folder"]: entry for entry in content["scans"]}


def test_a_bad_scan_is_reported_and_the_rest_done(scans, trained, tmp_path):
    out = tmp_path / "out"
    paths = [scans / "a/ct.nii.gz", scans / "broken.nii", scans / "b/ct.nii.gz"]
    code, stdout, err = search(trained, out, *paths)
    assert code == 1
    assert stdout.splitlines()[-1] == f"2 of 3 scans searched: {out / 'summary.json'}"
    assert err.splitlines()[-1].startswith(f"lesionkit: error: {scans / 'broken.nii'}: ")
    assert {path.name for path in out.iterdir()} == {
        "a_ct", "b_ct", "summary.json", "summary.csv"
    }  # fmt: skip
    assert set(tree(out / "a_ct")) == set(tree(out / "b_ct")) == FILES
    entries = summary(out)
    assert [entry["status"] for entry in entries.values()] == ["done", "failed", "done"]
    findings = json.loads((out / "a_ct/detections.json").read_text())["findings"]
    assert entries["a_ct"]["findings"] == len(findings) > 0
    assert entries["a_ct"]["slices"] == 3
    assert "broken.nii" in entries["broken"]["error"]
    with open(out / "summary.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert rows[0]["scan"] == str(paths[0])


def test_goes_on_with_what_is_not_done(scans, trained, tmp_path, monkeypatch):
    from lesionkit.cli import detect

    out, late = tmp_path / "out", tmp_path / "late.nii.gz"
    paths = [scans / "a/ct.nii.gz", late]
    assert search(trained, out, *paths)[0] == 1
    before = tree(out / "ct")
    shutil.copy(paths[0], late)
    searched = []
    original = detect.search_scan

    def counted(search, scan, *others, **options):
        searched.append(scan)
        return original(search, scan, *others, **options)

    monkeypatch.setattr(detect, "search_scan", counted)
    code, stdout, err = search(trained, out, *paths)
    assert (code, searched) == (0, [late]), err
    assert "1 of 2 scans are done already" in stdout
    assert tree(out / "ct") == before
    entries = summary(out)
    assert [entry["status"] for entry in entries.values()] == ["done", "done"]
    assert entries["ct"]["findings"] == entries["late"]["findings"] > 0

    # What a run that was killed while its results moved leaves: a list, and files missing.
    (out / "ct" / "overlay.png").unlink()
    (out / "late" / "notes.txt").write_text("mine")
    assert search(trained, out, *paths)[0] == 0
    assert searched == [late, paths[0]]
    assert tree(out / "ct").keys() == before.keys()
    assert (out / "late" / "notes.txt").exists()

    assert search(trained, out, *paths, "--overwrite")[0] == 0
    assert searched[2:] == paths
    refused = search(trained, out, *paths, "--max-findings", 1)
    assert_refused(refused, "ct", "other options", "--overwrite")
    assert len(searched) == 4


def test_what_a_killed_run_leaves_goes(scans, trained, tmp_path):
    out = tmp_path / "out"
    paths = [scans / "a/ct.nii.gz", scans / "b/ct.nii.gz"]
    left = out / "a_ct" / "unfinished"
    left.mkdir(parents=True)
    config = {"lesionkit": "1", "command": "detect", "files": []}
    (left / "config.json").write_text(json.dumps(config))
    (left / "detections.json").write_text("{")
    assert search(trained, out, *paths)[0] == 0
    assert set(tree(out / "a_ct")) == FILES


def test_a_fault_costs_one_scan(scans, trained, tmp_path, monkeypatch):
    from lesionkit.inference import streaming

    original = streaming.detect_grid

    def faulty(model, grid, *others):
        if "/a/" in grid.volume.source:
            raise ZeroDivisionError("made up")
        return original(model, grid, *others)

    monkeypatch.setattr(streaming, "detect_grid", faulty)
    code, _, err = search(trained, tmp_path, scans / "a/ct.nii.gz", scans / "b/ct.nii.gz")
    assert code == 1
    assert "ZeroDivisionError: made up" in err
    entries = summary(tmp_path)
    assert "faulty" in entries["a_ct"]["trace"]
    assert entries["b_ct"]["status"] == "done"
    assert not (tmp_path / "a_ct").exists()


def test_worklists(scans, series, trained, tmp_path):
    (tmp_path / "list.txt").write_text(f"# scans\n\n{series}\n{scans}/a/ct.nii.gz\n")
    assert read_worklist(tmp_path / "list.txt") == [
        (series, None), (scans / "a/ct.nii.gz", None)
    ]  # fmt: skip
    shutil.copy(scans / "a/ct.nii.gz", tmp_path / "one, two.nii.gz")
    (tmp_path / "list.csv").write_text(
        'Note,Path,Series\r\n,"one, two.nii.gz",\r\nx,elsewhere,4\r\n', encoding="utf-8-sig"
    )
    listed = read_worklist(tmp_path / "list.csv")
    assert listed == [(tmp_path / "one, two.nii.gz", None), (tmp_path / "elsewhere", "4")]
    code, _, err = search(trained, tmp_path / "out", "--worklist", tmp_path / "list.csv")
    assert code == 1
    assert "elsewhere: no such file" in err
    entries = summary(tmp_path / "out")
    assert entries["one, two"]["status"] == "done"
    assert entries["elsewhere"]["series"] == "4"


@pytest.mark.parametrize(
    "text,words",
    [
        ("", ["empty"]),
        ("# nothing\n\n", ["lists no scan"]),
        ("path,series\n,3\n", ["row without a path"]),
        ("path\n", ["lists no scan"]),
    ],
)
def test_worklists_that_list_nothing(tmp_path, text, words):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        read_worklist(tmp_path / "list.csv")
    for word in ["list.csv", *words]:
        assert word in str(caught.value)
    (tmp_path / "list.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is no UTF-8 text"):
        read_worklist(tmp_path / "list.csv")


@pytest.mark.parametrize(
    "listed,names",
    [
        (["/d/a.nii.gz", "/d/b.mha", "/d/c"], ["a", "b", "c"]),
        (["/d/1/ct", "/d/2/ct", "/d/x"], ["1_ct", "2_ct", "x"]),
        (["/d/1/s/ct", "/d/2/s/ct"], ["1_s_ct", "2_s_ct"]),
        (["/d/ct", "/d/e/ct"], ["d_ct", "e_ct"]),
        ([("/d/ct", "4"), ("/d/ct", "5")], ["ct_4", "ct_5"]),
        (["/d/a.b", "/d/.nii"], ["a.b", ".nii"]),
    ],
)
def test_folder_names(listed, names):
    pairs = [
        (Path(one), None) if isinstance(one, str) else (Path(one[0]), one[1]) for one in listed
    ]
    assert folder_names(pairs) == names


@pytest.mark.parametrize(
    "listed,words",
    [
        (["/d/a", "/d/../d/a"], "/d/a: is listed twice"),
        (["/d/a.nii", "/d/a.mha"], "taken"),
        (["/d/unfinished", "/d/b"], "folder unfinished, which is taken"),
        (["/d/A", "/d/a"], "taken"),  # some systems do not tell them apart
    ],
)
def test_folder_names_that_cannot_be(listed, words):
    with pytest.raises(InputError, match=words):
        folder_names([(Path(one), None) for one in listed])


@pytest.mark.parametrize(
    "name,content,words",
    [
        ("config.json", '{"lesionkit": "1"}', "results of one run"),
        ("summary.json", '{"format": "mine"}', "did not write"),
        ("summary.csv", "mine", "something else"),
        ("a_ct/notes.txt", "mine", "not empty"),
    ],
)
def test_what_is_not_ours_stays(scans, trained, tmp_path, name, content, words):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    paths = [scans / "a/ct.nii.gz", scans / "b/ct.nii.gz"]
    assert_refused(search(trained, tmp_path, *paths), words)
    assert tree(tmp_path) == {name: content.encode()}


def test_options_that_do_not_go_together(scans, trained, tmp_path):
    paths = [scans / "a/ct.nii.gz", scans / "b/ct.nii.gz"]
    out = tmp_path / "out"
    assert_refused(search(trained, out, *paths, "--series", "4"), "--series 4", "--worklist")
    assert_refused(search(trained, out), "no scan", "--worklist")
    assert_refused(search(trained, out, "--worklist", tmp_path / "none"), "none")
    assert_refused(search(trained, scans / "a", scans, paths[1]), "outside")
    assert not out.exists()
