import torch

from lesionkit import spatial_attention, spatial_attention_reference
from tests.ops.attention_contract import AttentionContract
from tests.ops.registration_contract import RegistrationContract


class TestSpatial(AttentionContract, RegistrationContract):
    op = spatial_attention
    reference = spatial_attention_reference
    groups = ((3, 4),)


def test_by_hand():
    # One plane of two cells: logits 3 and 0, T = 3, so the weights are 1 and exp(-1).
    x = torch.tensor([3.0, 5.0]).view(1, 1, 1, 1, 2)
    logits = torch.tensor([3.0, 0.0]).view(1, 1, 1, 1, 2)
    expected = torch.tensor([3.0, 5.0 * 0.36787944117144233]).view(1, 1, 1, 1, 2)
    torch.testing.assert_close(spatial_attention(x, logits, 3.0), expected)


def test_planes_do_not_see_each_other():
    x, logits = torch.randn(2, 2, 3, 3, 5, 7).unbind(0)
    for b, m, d in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(3)):
        one = (slice(b, b + 1), slice(m, m + 1), slice(d, d + 1))
        assert torch.equal(
            spatial_attention(x[one], logits[one]), spatial_attention(x, logits)[one]
        )
