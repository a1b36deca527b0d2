from dataclasses import replace

import torch

from bench.step import LESIONS, train_step, whole_step
from lesionkit.models import PRESETS, LesionDetector
from lesionkit.training import TRAINING_PRESETS
from lesionkit.training.step import make_optimizer


def test_the_parts_are_the_step():
    """Backward in pieces gives the weights that the ordinary step gives."""
    laps = []
    parts = _stepped(lambda *arguments: train_step(*arguments, laps.append))
    whole, untouched = _stepped(whole_step), _stepped(lambda *arguments: None)
    for ours, theirs, before in zip(parts, whole, untouched, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
        assert not torch.equal(ours, before)
    assert len(set(laps)) == len(laps) == 13


def _stepped(step):
    torch.manual_seed(3)
    model = LesionDetector(PRESETS["tiny"]).train()
    optimizer = make_optimizer(model, replace(TRAINING_PRESETS["tiny"], optimizer="sgd"))
    images = 100 * torch.rand(2, 3, 3, 128, 128)
    truth = [torch.tensor(LESIONS) / 4] * 2
    step(model, optimizer, images, truth, 5.0)
    return [parameter.detach() for parameter in model.parameters()]
