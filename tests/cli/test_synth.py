import json

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


@pytest.mark.parametrize(
    "option,value", [("--patients", 2), ("--image-size", 63), ("--seed", -1), ("--patients", "x")]
)
def test_bad_numbers_write_nothing(tmp_path, option, value):
    out = tmp_path / "out"
    assert_refused(lesionkit("synth", "--out", out, option, value), option.lstrip("-")[:5])
    assert not out.exists()
