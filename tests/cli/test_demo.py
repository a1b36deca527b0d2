import json

import pytest

from lesionkit.training import TRAINING_PRESETS

from .lk import assert_refused, lesionkit, tree


def test_small_demo(tmp_path, monkeypatch):
    """All steps on the smallest data set; how good it gets is measured on the real thing."""
    from dataclasses import replace

    from lesionkit.cli import demo

    monkeypatch.setattr(demo, "IMAGE_SIZE", 64)
    monkeypatch.setitem(TRAINING_PRESETS, "tiny", replace(TRAINING_PRESETS["tiny"], epochs=1))
    out = tmp_path / "demo"
    code, stdout, err = lesionkit("demo", "--out", out, "--patients", 3)
    assert code == 0, err
    files = {name for name in tree(out) if not name.startswith("data/")}
    assert files == {
        *("config.json", "detections.json", "last.safetensors", "metrics.jsonl", "pictures.png"),
        *("results.json", "weights.safetensors"),
    }
    results = json.loads((out / "results.json").read_text())
    assert results["false_positives_per_image"] == [0.5, 1, 2, 4, 8, 16]
    assert len(results["sensitivity"]) == 6
    assert results["patients"] == {"train": 1, "val": 1, "test": 1}
    assert "sensitivity in %" in stdout
    for step in ("1/4", "2/4", "3/4", "4/4"):
        assert step in err


@pytest.mark.parametrize(
    "option,value", [("--patients", 1), ("--seed", -3), ("--device", "cuda:77")]
)
def test_bad_input_writes_nothing(tmp_path, option, value):
    out = tmp_path / "demo"
    assert_refused(lesionkit("demo", "--out", out, option, value), option.lstrip("-"))
    assert not out.exists()
