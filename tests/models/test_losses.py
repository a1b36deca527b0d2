import math

import pytest
import torch

from lesionkit.models.losses import box_loss, class_loss


def test_class_loss_by_hand():
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    # Probabilities of the right class: 1/2 and 1/4.
    expected = (math.log(2) + math.log(4)) / 2
    assert class_loss(logits, torch.tensor([1, 0])).item() == pytest.approx(expected)


def test_class_loss_of_nothing_is_0():
    logits = torch.zeros(0, 2, requires_grad=True)
    loss = class_loss(logits, torch.zeros(0, dtype=torch.int64))
    assert loss.item() == 0
    loss.backward()


def test_box_loss_by_hand():
    # MXNet smooth_l1 with sigma 3: 4.5 d^2 below 1/9, d - 1/18 above.
    deltas = torch.tensor([[0.1, -1.0, 0.0, 0.0]])
    expected = (4.5 * 0.01 + 1 - 1 / 18) / 32
    assert box_loss(deltas, torch.zeros(1, 4), 3, 32).item() == pytest.approx(expected)
    expected = (0.5 * 0.01 + 0.5) / 64
    assert box_loss(deltas, torch.zeros(1, 4), 1, 64).item() == pytest.approx(expected)


def test_half_logits_are_summed_in_float32():
    loss = class_loss(torch.zeros(3, 2, dtype=torch.bfloat16), torch.zeros(3, dtype=torch.int64))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(2), rel=1e-6)
