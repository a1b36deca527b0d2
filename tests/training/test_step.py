"""One training step: precision, clipping, and what is random in it."""

import json
from dataclasses import replace

import pytest
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from lesionkit.models import PRESETS, LesionDetector
from lesionkit.training import TRAINING_PRESETS, scan_samples, train
from lesionkit.training.distributed import start
from lesionkit.training.step import make_optimizer, training_step

from .scans import BALL_BOX, ball_scan

CONFIG = replace(TRAINING_PRESETS["tiny"], optimizer="sgd", epochs=2, batch_size=2)


@pytest.fixture(scope="module")
def samples():
    marked = dict.fromkeys((3, 4, 5), BALL_BOX)
    samples = scan_samples(ball_scan(), marked, PRESETS["tiny"].preprocessing)
    samples.preload(1e9)
    return samples


def step(samples, order=(0, 1), seeds=(5, 6), **changes):
    """Losses, gradients as the optimizer sees them, and the model after one step."""
    config = replace(CONFIG, **changes)
    torch.manual_seed(0)
    model = LesionDetector("tiny")
    fabric = start("cpu", config.precision)
    wrapped = fabric.setup(model, make_optimizer(model, config))
    torch.manual_seed(int(sum(order)))  # of no consequence
    values = training_step(fabric, *wrapped, [samples[i] for i in order], seeds, config)
    return values, {name: p.grad for name, p in model.named_parameters()}, model


def largest(gradients):
    return max(float(g.abs().max()) for g in gradients.values())


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed", "32-true"])
def test_clipping_acts_on_true_gradients(samples, precision):
    """In half precision the loss, and with it each gradient, is first multiplied by 65536."""
    _, free, _ = step(samples, precision=precision, gradient_clip=1e9)
    limit = largest(free) / 2
    _, clipped, _ = step(samples, precision=precision, gradient_clip=limit)
    assert largest(clipped) == pytest.approx(limit)
    for name, gradient in free.items():
        torch.testing.assert_close(clipped[name], gradient.clamp(-limit, limit))


def test_mixed_precision_is_close(samples):
    exact, gradients, _ = step(samples)
    for precision, tolerance in (("16-mixed", 0.01), ("bf16-mixed", 0.05)):
        values, found, _ = step(samples, precision=precision)
        assert values == pytest.approx(exact, rel=tolerance, abs=1e-4)
        name = "head.hidden.0.weight"
        error = (found[name] - gradients[name]).norm() / gradients[name].norm()
        assert error < 10 * tolerance
        assert found[name].dtype == torch.float32


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_true_boxes_are_not_rounded(samples, precision, monkeypatch):
    """bfloat16 has no pixel 301."""
    seen = []
    original = LesionDetector.forward

    def spy(self, images, targets, *arguments):
        seen.append(targets[0]["boxes"])
        return original(self, images, targets, *arguments)

    monkeypatch.setattr(LesionDetector, "forward", spy)
    odd = replace(samples[0], boxes=samples[0].boxes + 0.1234)
    step([odd, samples[1]], precision=precision)
    assert torch.equal(seen[0], odd.boxes)


def test_the_choice_of_boxes_goes_with_the_sample(samples):
    losses, gradients, _ = step(samples, (0, 1), (5, 6))
    again, same, _ = step(samples, (1, 0), (6, 5))
    other, _, _ = step(samples, (0, 1), (5, 7))
    assert again == pytest.approx(losses, abs=1e-6)
    assert all(torch.allclose(same[n], g, atol=1e-6) for n, g in gradients.items())
    assert other != pytest.approx(losses, abs=1e-6)


def test_a_step_is_that_of_mxnet(samples):
    """3DCE's optimizer: clipped gradient plus decay into the momentum; biases twice as fast."""
    config = {"gradient_clip": 1e-3, "weight_decay": 0.1, "learning_rate": 0.5}
    torch.manual_seed(0)
    before = {name: p.clone() for name, p in LesionDetector("tiny").named_parameters()}
    _, gradients, model = step(samples, **config)
    for name, after in model.named_parameters():
        gradient, weight = gradients[name], before[name].detach()
        assert gradient.abs().max() <= 1e-3
        if name.endswith("bias"):
            expected = weight - 0.5 * gradient  # the rate's factor is the loop's
        else:
            expected = weight - 0.5 * (gradient + 0.1 * weight)
        torch.testing.assert_close(after.detach(), expected)


def test_events_and_metrics(tmp_path, samples):
    config = replace(CONFIG, schedule="step", milestones=(1,), warmup_steps=0, validate_every=1)
    train("tiny", samples, tmp_path, config, samples, "cpu")
    (path,) = (tmp_path / "tensorboard").iterdir()
    found = {}
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.tensor.float_val[0]))
    losses = ("loss", "loss_rpn_class", "loss_rpn_box", "loss_class", "loss_box")
    tags = {f"train/{name}" for name in (*losses, "learning_rate")} | {"validate/sensitivity"}
    assert found.keys() == tags
    assert all([step for step, _ in values] == [1, 2] for values in found.values())
    rates = [value for _, value in found["train/learning_rate"]]
    assert rates == pytest.approx([2e-3, 2e-4])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for name in losses[1:]:  # one step an epoch, so the epoch's mean is the step's
        values = [value for _, value in found[f"train/{name}"]]
        assert values == pytest.approx([line[name] for line in lines])


def test_a_later_run_in_the_folder_starts_anew(tmp_path, samples):
    for _ in range(2):
        train("tiny", samples, tmp_path, replace(CONFIG, epochs=1), None, "cpu")
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
