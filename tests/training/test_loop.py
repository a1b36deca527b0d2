import json
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lesionkit.errors import InputError
from lesionkit.models import PRESETS, LesionDetector, load_detector
from lesionkit.training import TRAINING_PRESETS, scan_samples, train
from lesionkit.training.loop import validate
from lesionkit.training.samples import Samples

from .scans import BALL_BOX, ball_scan

DETECTOR = PRESETS["tiny"]
CONFIG = replace(TRAINING_PRESETS["tiny"], epochs=2, batch_size=2, validate_every=1, shift=4)


@pytest.fixture
def samples():
    samples = scan_samples(ball_scan(), dict.fromkeys((3, 4, 5), BALL_BOX), DETECTOR.preprocessing)
    samples.preload(1e9)
    return samples


def test_same_seed_same_weights(tmp_path, samples):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        train("tiny", samples, tmp_path / name, replace(CONFIG, seed=seed), samples, "cpu")
    a, b, c = (load_file(tmp_path / name / "weights.safetensors") for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)
    assert (tmp_path / "a/metrics.jsonl").read_text() == (tmp_path / "b/metrics.jsonl").read_text()


def test_metrics_and_progress(tmp_path, samples):
    seen = []
    result = train(
        "tiny", samples, tmp_path, CONFIG, samples, "cpu", lambda *report: seen.append(report)
    )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, 1), (2, 2)]
    losses = {"loss_rpn_class", "loss_rpn_box", "loss_class", "loss_box"}
    assert all(losses <= line.keys() for line in lines)
    assert result.sensitivity == max(line["validation_sensitivity"] for line in lines)
    assert [report[:2] for report in seen] == [(1, 2)] * 4 + [(2, 2)] * 4
    assert [report[2] for report in seen[1:4]] == [f"validating {done}/3" for done in (1, 2, 3)]
    assert "epoch 1, loss" in seen[0][2]
    assert "epoch 2, loss" in seen[4][2]
    assert "% found at 4 false positives per image" in seen[4][2]


def test_learns_one_sample(tmp_path):
    samples = scan_samples(ball_scan(), {4: BALL_BOX}, DETECTOR.preprocessing)
    config = replace(CONFIG, epochs=60, flip=False, shift=0, validate_every=60)
    result = train("tiny", samples, tmp_path, config, samples, "cpu")
    assert result.sensitivity == 1
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss_class"] < 0.3 * lines[0]["loss_class"]


def test_keeps_the_best_weights(tmp_path, samples, monkeypatch):
    values = iter([0.2, 0.6, 0.6, 0.4])
    seen = []

    def scripted(model, *arguments):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        result = validate(model, *arguments)
        return replace(result, sensitivity=[next(values)])

    monkeypatch.setattr("lesionkit.training.loop.validate", scripted)
    result = train("tiny", samples, tmp_path, replace(CONFIG, epochs=4), samples, "cpu")
    assert (result.epoch, result.sensitivity) == (3, 0.6)  # of equals, the later
    kept = load_file(result.weights)
    assert all(torch.equal(kept[name], value) for name, value in seen[2].items())
    assert load_detector(result.weights).config == DETECTOR


def test_without_validation_the_last_weights_are_kept(tmp_path, samples):
    model = LesionDetector("tiny")
    result = train(model, samples, tmp_path, CONFIG, device="cpu")
    assert (result.epoch, result.sensitivity) == (2, None)
    kept = load_file(result.weights)
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())


def test_stops_at_a_loss_that_is_not_finite(tmp_path, samples):
    model = LesionDetector("tiny")
    calls = []

    def poison(module, arguments, losses):
        calls.append(losses)
        return losses | {"loss_box": losses["loss_box"] * float("nan")} if len(calls) == 2 else None

    model.register_forward_hook(poison)
    before = {}
    with pytest.raises(FloatingPointError, match="step 2: loss_box is nan"):
        train(model, samples, tmp_path, CONFIG, None, "cpu")
    before = load_file(tmp_path / "weights.safetensors")  # of epoch 1, and finite
    assert all(value.isfinite().all() for value in before.values())
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_biases_learn_twice_as_fast_and_do_not_decay(tmp_path, samples, monkeypatch):
    groups = []
    step = torch.optim.SGD.step

    def spy(self, *args, **kwargs):
        groups.append([dict(group) for group in self.param_groups])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    config = replace(TRAINING_PRESETS["3dce_cs_att"], epochs=1)
    train(LesionDetector("tiny"), samples, tmp_path, config, device="cpu")
    weights, biases = groups[0]
    assert (weights["lr"], biases["lr"]) == pytest.approx((1e-3, 2e-3))
    assert (weights["weight_decay"], biases["weight_decay"]) == (5e-5, 0)
    assert all(parameter.dim() == 1 for parameter in biases["params"])
    assert all(parameter.dim() > 1 for parameter in weights["params"])


def test_gradients_are_clipped_element_by_element(tmp_path, samples, monkeypatch):
    largest = []
    step = torch.optim.SGD.step

    def spy(self, *args, **kwargs):
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        largest.append(max(float(g.abs().max()) for g in gradients))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    config = replace(TRAINING_PRESETS["3dce"], epochs=1, gradient_clip=1e-4)
    train(LesionDetector("tiny"), samples, tmp_path, config, device="cpu")
    assert largest == [pytest.approx(1e-4)]


def test_worker_processes_change_nothing(tmp_path, samples):
    unkept = scan_samples(ball_scan(), dict.fromkeys((3, 4, 5), BALL_BOX), DETECTOR.preprocessing)
    kept, read = (
        train("tiny", part, tmp_path / name, replace(CONFIG, workers=workers), None, "cpu")
        for name, part, workers in (("kept", samples, 0), ("read", unkept, 1))
    )
    kept, read = load_file(kept.weights), load_file(read.weights)
    assert all(torch.equal(kept[name], read[name]) for name in kept)


def test_validation_holds_one_sample_at_a_time():
    """The images of DeepLesion's validation split would be 45 GB."""
    marked = dict.fromkeys(range(2, 7), BALL_BOX)
    prepared = scan_samples(ball_scan(), marked, DETECTOR.preprocessing)
    alive, most = [], []

    def prepare(index):
        sample = prepared[index]
        alive.append(weakref.ref(sample))
        most.append(sum(ref() is not None for ref in alive))
        return sample

    torch.manual_seed(0)
    model = LesionDetector("tiny")
    seen = []
    state = torch.get_rng_state()
    result = validate(model, Samples(5, prepare), progress=lambda *n: seen.append(n))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(alive) == 5
    assert max(most) <= 2
    assert seen == [(done, 5) for done in range(1, 6)]
    with_workers = validate(model, prepared, workers=2)
    np.testing.assert_array_equal(result.sensitivity, with_workers.sensitivity)
    np.testing.assert_array_equal(result.curve_score, with_workers.curve_score)


def test_a_scan_too_small_for_the_network(tmp_path):
    scan = replace(ball_scan(), spacing=(0.01, 0.01, 4.0))
    samples = scan_samples(scan, {4: BALL_BOX}, DETECTOR.preprocessing)
    with pytest.raises(InputError, match="a ball: too small"):
        train("tiny", samples, tmp_path, CONFIG, None, "cpu")


def test_weights_that_break_in_the_last_step_do_not_replace_sound_ones(
    tmp_path, samples, monkeypatch
):
    step, steps = torch.optim.AdamW.step, []

    def poison(self, *args, **kwargs):
        result = step(self, *args, **kwargs)
        steps.append(result)
        if len(steps) == 2:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(torch.nan)
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", poison)
    with pytest.raises(FloatingPointError, match=r"diverged at step 2: .*not finite"):
        train("tiny", samples, tmp_path, CONFIG, None, "cpu")
    assert all(v.isfinite().all() for v in load_file(tmp_path / "weights.safetensors").values())


def test_no_samples(tmp_path):
    with pytest.raises(ValueError, match="training"):
        train("tiny", scan_samples(ball_scan(), {}, DETECTOR.preprocessing), tmp_path, CONFIG)
