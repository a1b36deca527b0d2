import json

import pytest

from lesionkit.cli.output import check_output, result_folder
from lesionkit.errors import InputError

from .lk import tree

CONFIG = {"command": "test"}


def write(out, files, overwrite=False, **options):
    with result_folder(out, overwrite, CONFIG, **options) as folder:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)


def fail(out, overwrite=False, **options):
    """A run that breaks off after it has written x.txt."""

    def run():
        with result_folder(out, overwrite, CONFIG, **options) as folder:
            (folder / "x.txt").write_text("broken off")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()


def test_new_folder(tmp_path):
    out = tmp_path / "a" / "b"
    write(out, {"x.txt": "1", "sub/y.txt": "2"})
    assert {*tree(out)} == {"config.json", "x.txt", "sub/y.txt"}
    config = json.loads((out / "config.json").read_text())
    assert config["files"] == ["config.json", "sub/y.txt", "x.txt"]
    assert config["command"] == "test"


def test_empty_folder_is_used(tmp_path):
    write(tmp_path, {"x.txt": "1"})
    assert (tmp_path / "x.txt").read_text() == "1"


def test_results_are_not_replaced_unasked(tmp_path):
    write(tmp_path, {"x.txt": "1"})
    with pytest.raises(InputError, match="--overwrite"):
        write(tmp_path, {"x.txt": "2"})
    assert (tmp_path / "x.txt").read_text() == "1"


def test_overwrite_replaces_what_lesionkit_wrote_and_no_more(tmp_path):
    write(tmp_path, {"x.txt": "1", "old/y.txt": "1", "both/z.txt": "1"})
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "both" / "mine.txt").write_text("mine")
    write(tmp_path, {"x.txt": "2"}, overwrite=True)
    assert {*tree(tmp_path)} == {"config.json", "x.txt", "mine.txt", "both/mine.txt"}
    assert (tmp_path / "x.txt").read_text() == "2"
    assert not (tmp_path / "old").exists()


def test_overwrite_leaves_others_folders_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="was not written by lesionkit"):
        write(tmp_path, {"x.txt": "1"}, overwrite=True)
    (tmp_path / "config.json").write_text('{"files": ["mine.txt"]}')
    with pytest.raises(InputError, match="was not written by lesionkit"):
        check_output(tmp_path, overwrite=True)
    assert {*tree(tmp_path)} == {"mine.txt", "config.json"}


def test_overwrite_does_not_replace_a_file_of_somebody_else(tmp_path):
    write(tmp_path, {"x.txt": "1"})
    (tmp_path / "new.txt").write_text("mine")
    with pytest.raises(InputError, match=r"new\.txt"):
        write(tmp_path, {"new.txt": "2"}, overwrite=True)
    assert (tmp_path / "new.txt").read_text() == "mine"
    assert (tmp_path / "x.txt").read_text() == "1"


@pytest.mark.parametrize("listed", ["../outside.txt", "{}", "link/outside.txt"])
def test_overwrite_never_deletes_outside(tmp_path, listed):
    outside, out = tmp_path / "outside.txt", tmp_path / "out"
    outside.write_text("mine")
    write(out, {"x.txt": "1"})
    (out / "link").symlink_to(tmp_path)
    config = json.loads((out / "config.json").read_text())
    config["files"].append(listed.format(outside))
    (out / "config.json").write_text(json.dumps(config))
    write(out, {"x.txt": "2"}, overwrite=True)
    assert outside.read_text() == "mine"


def test_failure_leaves_nothing_new(tmp_path):
    out = tmp_path / "out"
    fail(out)
    assert not out.exists()


def test_failure_leaves_the_old_results(tmp_path):
    write(tmp_path, {"x.txt": "1"})
    before = tree(tmp_path)
    fail(tmp_path, overwrite=True)
    assert tree(tmp_path) == before


def test_unfinished_results_can_be_kept_and_replaced(tmp_path):
    fail(tmp_path, keep_unfinished=True)
    assert {*tree(tmp_path)} == {"unfinished/config.json", "unfinished/x.txt"}
    with pytest.raises(InputError, match="--overwrite"):
        write(tmp_path, {"x.txt": "2"})
    write(tmp_path, {"x.txt": "2"}, overwrite=True)
    assert {*tree(tmp_path)} == {"config.json", "x.txt"}


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(InputError, match="is a file"):
        check_output(path, overwrite=True)
