import json
import re

import pytest

from lesionkit.data import DeepLesion

from .lk import assert_refused, lesionkit, tree


def test_writes_a_data_set_and_its_config(data):
    assert sum(len(DeepLesion(data, split=split)) for split in ("train", "val", "test")) >= 3
    config = json.loads((data / "config.json").read_text())
    assert config["command"] == "synth"
    assert config["arguments"] == {"patients": 3, "seed": 0, "image_size": 64}
    assert config["files"] == sorted(tree(data))


def test_same_seed_same_bytes(data, tmp_path):
    for name, seed in (("same", 0), ("other", 1)):
        code, _, _ = lesionkit(
            "synth", "--out", tmp_path / name, "--patients", 3, "--image-size", 64, "--seed", seed
        )
        assert code == 0
    assert tree(tmp_path / "same") == tree(data)
    assert tree(tmp_path / "other") != tree(data)


def test_option_names():
    code, out, err = lesionkit("synth", "--help")
    assert (code, err) == (0, "")
    options = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", out, re.MULTILINE))
    assert options == {"--out", "--patients", "--seed", "--image-size", "--overwrite", "--help"}


@pytest.mark.parametrize(
    "option,values",
    [
        ("--seed", [-1, "1.5", "1e3", "one", "", 2**32, 10**30, "nan"]),
        ("--patients", [2, 0, -5, "x", 10**6, 10**30]),
        ("--image-size", [63, 100, 0, 1032, "512px"]),
        ("--image_size", [512]),
    ],
)
def test_bad_options_write_nothing(tmp_path, option, values):
    out = tmp_path / "out"
    for value in values:
        assert_refused(lesionkit("synth", "--out", out, option, value), option)
    assert not out.exists()
