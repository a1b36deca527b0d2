import os
import stat

import pytest

from lesionkit.files import atomic_write, keep_former


def test_content_and_name_are_on_the_disk_in_that_order(tmp_path, monkeypatch):
    done = []
    sync, rename = os.fsync, os.replace

    def fsync(handle):
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        done.append("folder" if is_folder else os.fstat(handle).st_size)
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda *paths: done.append("name") or rename(*paths))
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("12345")
    assert done == [5, "name", "folder"]


def test_a_failed_write_leaves_nothing(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), atomic_write(path) as temporary:
        temporary.write_text("new\udc80", encoding="utf-8")
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("links", [True, False])
def test_the_former_file_is_kept(tmp_path, monkeypatch, links):
    def no_links(*_):
        raise PermissionError

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    path, former = tmp_path / "last.txt", tmp_path / "previous.txt"
    for content in "abc":
        with keep_former(path, former), atomic_write(path) as temporary:
            temporary.write_text(content)
    assert (path.read_text(), former.read_text()) == ("c", "b")
    with pytest.raises(KeyError), keep_former(path, former):
        raise KeyError
    assert (path.read_text(), former.read_text()) == ("c", "b")
    assert {*tmp_path.iterdir()} == {path, former}
