import json

import pytest

from lesionkit.cli.output import check_output, result_folder
from lesionkit.errors import InputError

from .lk import tree

CONFIG = {"command": "test"}


def write(out, files, overwrite=False, **options):
    with result_folder(out, overwrite, CONFIG, list(files), **options) as folder:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)


def fail(out, overwrite=False, text="broken off", **options):
    """A run that breaks off after it has written x.txt; returns the notes on the exception."""

    def run():
        with result_folder(out, overwrite, CONFIG, ["x.txt"], **options) as folder:
            (folder / "x.txt").write_text(text)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as raised:
        run()
    return getattr(raised.value, "__notes__", [])


def relist(out, change):
    """Change the list of files in a result folder's config.json."""
    config = json.loads((out / "config.json").read_text())
    config["files"] = change(config["files"])
    (out / "config.json").write_text(json.dumps(config))


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
        check_output(tmp_path, True, "test", ["x.txt"])
    assert {*tree(tmp_path)} == {"mine.txt", "config.json"}


@pytest.mark.parametrize("mine", ["new.txt", "sub/deep/mine.txt"])
def test_a_file_of_somebody_else_in_the_way_is_found_before_the_work(tmp_path, mine):
    write(tmp_path, {"x.txt": "1", "sub/deep/y.txt": "1"})
    (tmp_path / mine).write_text("mine")
    before = tree(tmp_path)
    names = ["new.txt", "sub"]
    with pytest.raises(InputError, match=f"holds {mine}, which lesionkit did not write"):
        check_output(tmp_path, True, "test", names)
    with (
        pytest.raises(InputError, match=mine),
        result_folder(tmp_path, True, CONFIG, names),
    ):
        pytest.fail("work begun")
    assert tree(tmp_path) == before


def test_what_appears_during_the_work_is_not_replaced(tmp_path):
    def run():
        with result_folder(tmp_path, False, CONFIG, ["x.txt"]) as folder:
            (folder / "x.txt").write_text("2")
            (tmp_path / "x.txt").write_text("mine")

    with pytest.raises(InputError, match=r"holds x\.txt"):
        run()
    assert tree(tmp_path) == {"x.txt": b"mine"}


def test_the_second_of_two_runs_does_not_replace_the_first(tmp_path):
    def both():
        with result_folder(tmp_path, False, CONFIG, ["x.txt"], keep_unfinished=True) as folder:
            (folder / "x.txt").write_text("second")
            write(tmp_path, {"x.txt": "first"})

    with pytest.raises(InputError, match="another run") as raised:
        both()
    assert raised.value.__notes__ == [f"what was written so far is in {tmp_path / 'unfinished'}"]
    found = tree(tmp_path)
    assert (found["x.txt"], found["unfinished/x.txt"]) == (b"first", b"second")


@pytest.mark.parametrize(
    "listed",
    [
        *("../outside.txt", "link/outside.txt", "sub/../../outside.txt", "./x.txt", "sub//y.txt"),
        *("{}", "", ".", "..", "sub", 7, None, ["x.txt"], {"a": 1}, "a\0b", "\ud800"),
    ],
)
def test_overwrite_trusts_no_list_that_names_anything_but_files_inside(tmp_path, listed):
    outside, out = tmp_path / "outside.txt", tmp_path / "out"
    outside.write_text("mine")
    write(out, {"x.txt": "1", "sub/y.txt": "1"})
    (out / "link").symlink_to(tmp_path)
    listed = listed.format(outside) if isinstance(listed, str) else listed
    relist(out, lambda files: [*files, listed])
    write(out, {"x.txt": "2"}, overwrite=True)
    assert outside.read_text() == "mine"
    assert {*tree(out)} == {"config.json", "x.txt"}
    assert (out / "link").is_symlink()


@pytest.mark.parametrize(
    "config",
    [
        "no JSON", "[]", "{}", "[" * 100_000,
        '{"lesionkit": 1, "command": "train", "files": []}',
        '{"lesionkit": "1", "command": "train", "files": "x.txt"}',
        '{"lesionkit": "1", "command": "train", "files": {"x.txt": 1}}',
    ],
)  # fmt: skip
def test_overwrite_needs_a_config_of_lesionkit(tmp_path, config):
    write(tmp_path, {"x.txt": "1"})
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match="was not written by lesionkit"):
        write(tmp_path, {"x.txt": "2"}, overwrite=True)
    assert (tmp_path / "x.txt").read_text() == "1"


def test_overwrite_replaces_results_of_the_same_command_only(tmp_path):
    write(tmp_path, {"x.txt": "1"})
    fail(tmp_path, overwrite=True, keep_unfinished=True)
    before = tree(tmp_path)
    with pytest.raises(InputError, match=r"holds what `lesionkit test` wrote.*`lesionkit other`"):
        check_output(tmp_path, True, "other", ["y.txt"])
    for name in ("x.txt", "config.json"):
        (tmp_path / name).unlink()
    with result_folder(tmp_path, True, {"command": "other"}, ["y.txt"]) as folder:
        (folder / "y.txt").write_text("1")
    kept = {name: content for name, content in before.items() if name.startswith("unfinished/")}
    assert kept.items() <= tree(tmp_path).items()


def test_listed_files_that_are_gone_do_no_harm(tmp_path):
    write(tmp_path, {"x.txt": "1", "sub/y.txt": "1"})
    (tmp_path / "sub" / "y.txt").unlink()
    write(tmp_path, {"x.txt": "2"}, overwrite=True)
    assert {*tree(tmp_path)} == {"config.json", "x.txt"}


def test_a_folder_that_happens_to_be_called_unfinished(tmp_path):
    """Nobody's work is taken for that of a failed run."""
    write(tmp_path, {"x.txt": "1"})
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "thesis.txt").write_text("mine")
    write(tmp_path, {"x.txt": "2"}, overwrite=True)
    assert {*tree(tmp_path)} == {"config.json", "x.txt", "unfinished/thesis.txt"}
    fail(tmp_path, overwrite=True)
    assert {*tree(tmp_path)} == {"config.json", "x.txt", "unfinished/thesis.txt"}


def test_failure_leaves_nothing_new(tmp_path):
    out = tmp_path / "out"
    fail(out)
    assert not out.exists()


def test_failure_leaves_the_old_results(tmp_path):
    write(tmp_path, {"x.txt": "1"})
    before = tree(tmp_path)
    fail(tmp_path, overwrite=True)
    assert tree(tmp_path) == before


def test_failure_leaves_none_of_the_folders_that_it_made(tmp_path):
    fail(tmp_path / "a" / "b" / "out")
    assert not any(tmp_path.iterdir())


def test_failure_without_content_is_not_kept(tmp_path):
    assert fail(tmp_path / "out", text="", keep_unfinished=True) == []
    assert not any(tmp_path.iterdir())


def test_unfinished_results_are_kept_and_block_nothing(tmp_path):
    (note,) = fail(tmp_path, keep_unfinished=True)
    assert str(tmp_path / "unfinished") in note
    kept = {"unfinished/config.json", "unfinished/x.txt"}
    assert {*tree(tmp_path)} == kept
    fail(tmp_path)
    assert {*tree(tmp_path)} == kept
    write(tmp_path, {"x.txt": "2"})
    assert {*tree(tmp_path)} == {"config.json", "x.txt", *kept}
    assert (tmp_path / "unfinished" / "x.txt").read_text() == "broken off"
    (tmp_path / "unfinished" / "mine.txt").write_text("mine")
    write(tmp_path, {"x.txt": "3"}, overwrite=True)
    assert {*tree(tmp_path)} == {"config.json", "x.txt", "unfinished/mine.txt"}


def test_a_file_that_was_not_announced_is_a_fault(tmp_path):
    def run():
        with result_folder(tmp_path, True, CONFIG, ["sub/*.txt"]) as folder:
            (folder / "x.txt").write_text("")

    with pytest.raises(RuntimeError, match=r"wrote \['x.txt'\]"):
        run()
    assert not any(tmp_path.iterdir())


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(InputError, match="is a file"):
        check_output(path, True, "test", [])
