import torch

from lesionkit import contextual_attention, contextual_attention_reference
from tests.ops.attention_contract import AttentionContract
from tests.ops.registration_contract import RegistrationContract


class TestContextual(AttentionContract, RegistrationContract):
    op = contextual_attention
    reference = contextual_attention_reference
    groups = ((1,),)


def test_by_hand():
    # One column of two images: logits 0 and 2, T = 2, so the weights are exp(-1) and 1.
    x = torch.tensor([3.0, 5.0]).view(1, 2, 1, 1, 1)
    logits = torch.tensor([0.0, 2.0]).view(1, 2, 1, 1, 1)
    expected = torch.tensor([3.0 * 0.36787944117144233, 5.0]).view(1, 2, 1, 1, 1)
    torch.testing.assert_close(contextual_attention(x, logits, 2.0), expected)


def test_gradient_by_hand():
    # g = 1: h = x * a / T = (0, 1, 2), tied maxima at images 1 and 2 share the sum 3 evenly.
    x = torch.tensor([0.0, 2.0, 4.0], dtype=torch.float64).view(1, 3, 1, 1, 1)
    logits = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64).view(1, 3, 1, 1, 1)
    logits.requires_grad_()
    contextual_attention(x, logits, 2.0).sum().backward()
    assert logits.grad.flatten().tolist() == [0.0, -0.5, 0.5]


def test_minus_infinity_masks_an_image():
    x = torch.randn(2, 3, 4, 5, 6)
    logits = torch.randn_like(x)
    logits[:, 2] = -torch.inf
    y = contextual_attention(x, logits)
    assert (y[:, 2] == 0).all()
    assert torch.equal(y[:, :2], contextual_attention(x[:, :2], logits[:, :2]))
