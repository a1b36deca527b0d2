import pytest
import torch

from lesionkit import (
    contextual_attention,
    dual_attention,
    dual_attention_reference,
    spatial_attention,
)
from tests.ops.attention_contract import FLOATS, AttentionContract, inputs
from tests.ops.registration_contract import RegistrationContract


class TestDual(AttentionContract, RegistrationContract):
    op = dual_attention
    reference = dual_attention_reference
    num_logits = 2
    groups = ((1,), (3, 4))

    @pytest.mark.parametrize("contextual", FLOATS)
    @pytest.mark.parametrize("spatial", FLOATS)
    def test_each_set_of_logits_may_have_its_own_type(self, backend, contextual, spatial):
        x, c, s = inputs(2, (1, 3, 2, 5, 7))
        self.check([x, c.to(contextual), s.to(spatial)])


def test_is_both_in_sequence():
    x, c, s = inputs(2, (2, 5, 3, 6, 7), torch.float64)
    in_sequence = spatial_attention(contextual_attention(x, c, 2.0), s, 3.0)
    torch.testing.assert_close(dual_attention(x, c, s, 2.0, 3.0), in_sequence)


def test_each_temperature_belongs_to_its_logits():
    x, c, s = inputs(2, (1, 3, 1, 4, 4), torch.float64)
    torch.testing.assert_close(
        dual_attention(x, c, s, 2.0, 3.0), dual_attention(x, c / 2, s / 3, 1, 1)
    )
