import pytest
import torch

import lesionkit
from lesionkit.deploy import native_form

SHAPE = (2, 3, 4, 5, 6)


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", ["contextual_attention", "spatial_attention"])
def test_equals_the_op(name, kind):
    x, logits = (torch.randn(SHAPE) * 3).to(kind), (torch.randn(SHAPE) * 5).to(kind)
    y = getattr(native_form, name)(x, logits, 2.5)
    assert y.dtype == kind
    expected = getattr(lesionkit, name)(x, logits, 2.5)
    torch.testing.assert_close(y, expected, rtol=2e-3 if kind == torch.float16 else 1e-5, atol=1e-6)


def test_dual_equals_the_op():
    x, contextual, spatial = torch.randn(3, *SHAPE)
    y = native_form.dual_attention(x, contextual, spatial, 2.0, 3.0)
    torch.testing.assert_close(y, lesionkit.dual_attention(x, contextual, spatial, 2.0, 3.0))
