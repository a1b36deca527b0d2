import json
from contextlib import contextmanager
from dataclasses import replace

import pytest

from lesionkit.cli import table_runs
from lesionkit.errors import InputError
from lesionkit.tables import Variant, needed


@pytest.fixture
def run(data):
    (planned,) = table_runs.plan(
        [Variant(15, True, True)],
        1,
        ["training.epochs=2", "training.batch_size=1", "training.checkpoint_every=0"],
        data,
        is_synthetic=True,
        device="cpu",
    )
    return planned


def test_full_presets_on_deeplesion(data):
    planned = table_runs.plan(needed((1, 2, 3)), 2, ["training.epochs=3"], data, False, "cpu")
    assert len({run.name for run in planned}) == len(planned) == 18
    assert [run.training.seed for run in planned] == 9 * [23] + 9 * [24]
    for run in planned:
        assert run.validate
        assert Variant.of(run.detector) == run.variant
        assert run.detector.backbone_weights == "torchvision"
        assert run.training.epochs == 3
        attention = run.detector.contextual or run.detector.spatial
        assert run.training.weight_decay == (5e-5 if attention else 5e-4)


def test_a_stopped_run_goes_on(run, tmp_path, monkeypatch):
    table_runs.finish(run, tmp_path / "whole")
    steps = _stop_at(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        table_runs.finish(run, tmp_path / "stopped", "a run")
    assert not table_runs.is_finished(run, tmp_path / "stopped")
    other = replace(run, training=replace(run.training, epochs=3))
    with pytest.raises(InputError, match=r"training\.epochs = 2, and 3 is wanted"):
        table_runs.finish(other, tmp_path / "stopped")
    monkeypatch.undo()
    again = _stop_at(monkeypatch, None)
    table_runs.finish(run, tmp_path / "stopped", "a run")
    assert steps == [1, 2]
    assert again[0] == 2  # the checkpoint after step 1 was the last
    assert table_runs.is_finished(run, tmp_path / "stopped")
    for name in ("detections.json", "metrics.jsonl"):
        whole, stopped = (tmp_path / of / name for of in ("whole", "stopped"))
        assert whole.read_bytes() == stopped.read_bytes()
    assert {entry.name for entry in (tmp_path / "stopped").iterdir()} == {
        *("config.json", "detections.json", "last.safetensors", "metrics.jsonl"),
        "weights.safetensors",
    }


def _stop_at(monkeypatch, last):
    """The steps that are shown from now on, up to ``last``, where Ctrl-C is pressed."""
    seen = []

    @contextmanager
    def shown(label, step):
        def update(done, total, note=""):
            if step == "training" and not (seen and seen[-1] == done):
                seen.append(done)
                if done == last:
                    raise KeyboardInterrupt

        yield update

    monkeypatch.setattr(table_runs, "_shown", shown)
    return seen


def test_a_folder_of_something_else_is_no_run(run, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"lesionkit": "1", "command": "synth"}))
    with pytest.raises(InputError, match="was made with"):
        table_runs.is_finished(run, tmp_path)
    with pytest.raises(InputError, match=r"neither detections\.json nor weights"):
        table_runs.tested(tmp_path, run.data, tmp_path / "out", "cpu")
