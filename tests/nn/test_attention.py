import copy

import pytest
import torch

from lesionkit.nn import ContextualAttention, DualAttention, SpatialAttention
from lesionkit.ops import contextual_attention_reference, spatial_attention_reference

LAYERS = [ContextualAttention, SpatialAttention, DualAttention]


def sharpen(layer):
    """Random phi large enough for weights far from 1."""
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer


def features(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def paper_logits(layer, x):
    weight = layer.phi.weight[:, :, 0, 0]
    return torch.einsum("od,bmdhw->bmohw", weight, x) + layer.phi.bias[:, None, None]


def test_contextual_follows_the_paper():
    layer, x = sharpen(ContextualAttention(4, temperature=1.5)), features(2, 3, 4, 5, 6)
    expected = contextual_attention_reference(x, paper_logits(layer, x), 1.5)
    torch.testing.assert_close(layer(x), expected)


def test_spatial_follows_the_paper():
    layer, x = sharpen(SpatialAttention(4, temperature=2.5)), features(2, 3, 4, 5, 6)
    expected = spatial_attention_reference(x, paper_logits(layer, x), 2.5)
    torch.testing.assert_close(layer(x), expected)


def test_default_temperatures_are_the_papers():
    dual = DualAttention(2)
    assert (ContextualAttention(2).temperature, SpatialAttention(2).temperature) == (2.0, 3.0)
    assert (dual.contextual.temperature, dual.spatial.temperature) == (2.0, 3.0)


def test_dual_refined_is_contextual_then_spatial():
    layer, x = sharpen(DualAttention(4, spatial_input="refined")), features(2, 3, 4, 5, 6)
    torch.testing.assert_close(layer(x), layer.spatial(layer.contextual(x)))


def test_dual_raw_takes_both_weights_from_x():
    layer, x = sharpen(DualAttention(4, spatial_input="raw")), features(2, 3, 4, 5, 6)
    _, contextual = layer.contextual(x, return_weights=True)
    _, spatial = layer.spatial(x, return_weights=True)
    torch.testing.assert_close(layer(x), x * contextual * spatial)
    refined = layer.spatial(layer.contextual(x))
    assert not torch.allclose(layer(x), refined, atol=1e-2)


@pytest.mark.parametrize("off", ["contextual", "spatial"])
def test_dual_with_one_module_is_that_module(off):
    layer, x = sharpen(DualAttention(4, **{off: False})), features(2, 3, 4, 5, 6)
    on = layer.spatial if off == "contextual" else layer.contextual
    assert getattr(layer, off) is None
    assert torch.equal(layer(x), on(x))
    _, weights = layer(x, return_weights=True)
    assert list(weights) == ["spatial" if off == "contextual" else "contextual"]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_zero_init_is_the_exact_identity(kind, kernel_size):
    x = features(2, 3, 4, 5, 6)
    assert torch.equal(kind(4, init="zero", kernel_size=kernel_size)(x), x)


@pytest.mark.parametrize("kind", LAYERS)
def test_normal_init(kind):
    torch.manual_seed(0)
    layer = kind(64)
    for name, parameter in layer.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            assert parameter.std().item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("kind", LAYERS)
def test_folded_input_gives_the_same(kind):
    layer, x = sharpen(kind(4, num_images=3)), features(2, 3, 4, 5, 6)
    folded, weights = layer(x.flatten(0, 1), return_weights=True)
    assert folded.shape == (6, 4, 5, 6)
    torch.testing.assert_close(folded, layer(x).flatten(0, 1))
    for a in weights.values() if isinstance(weights, dict) else [weights]:
        assert a.shape == folded.shape


@pytest.mark.parametrize("kind,axes", [(ContextualAttention, (1,)), (SpatialAttention, (3, 4))])
def test_weights_reach_1_and_give_the_output(kind, axes):
    layer, x = sharpen(kind(4)), features(2, 3, 4, 5, 6)
    y, weights = layer(x, return_weights=True)
    torch.testing.assert_close(y, x * weights)
    assert torch.equal(weights.amax(axes), torch.ones_like(weights.amax(axes)))
    assert weights.min() < 0.9


@pytest.mark.parametrize("spatial_input", ["refined", "raw"])
def test_dual_weights_give_the_output(spatial_input):
    layer, x = sharpen(DualAttention(4, spatial_input=spatial_input)), features(2, 3, 4, 5, 6)
    y, weights = layer(x, return_weights=True)
    torch.testing.assert_close(y, x * weights["contextual"] * weights["spatial"])
    torch.testing.assert_close(y, layer(x))


@pytest.mark.parametrize("spatial_input", ["refined", "raw"])
def test_masked_image_counts_as_absent(spatial_input):
    x = features(2, 3, 4, 5, 6)
    mask = torch.tensor([[True, True, False]] * 2)
    for layer in (ContextualAttention(4), DualAttention(4, spatial_input=spatial_input)):
        sharpen(layer)
        y = layer(x, mask=mask)
        torch.testing.assert_close(y[:, :2], layer(x[:, :2]))
        assert not y[:, 2].any()


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_reach_input_and_phi(kind):
    layer, x = sharpen(kind(4)), features(2, 3, 4, 5, 6).requires_grad_()
    layer(x).square().sum().backward()
    assert x.grad.isfinite().all()
    for name, parameter in layer.named_parameters():
        # A bias moves all logits alike, and only their differences count.
        largest = parameter.grad.abs().max()
        assert largest < 1e-4 if name.endswith("bias") else largest > 1e-3, name


@pytest.mark.parametrize("kind", LAYERS)
def test_autocast(kind):
    layer, x = sharpen(kind(4)), features(2, 3, 4, 5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, layer(x), rtol=0.1, atol=0.05)


@pytest.mark.parametrize("kind", LAYERS)
def test_compile_fullgraph(kind):
    layer, x = sharpen(kind(4, num_images=3)), features(6, 4, 5, 6).requires_grad_()
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))
    (expected,) = torch.autograd.grad(layer(x).square().sum(), x)
    (actual,) = torch.autograd.grad(compiled(x).square().sum(), x)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("kind", LAYERS)
def test_copies_and_state_dict(kind):
    layer, x = sharpen(kind(4)), features(2, 3, 4, 5, 6)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    other = kind(4)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))


def test_strided_input():
    layer = sharpen(DualAttention(4))
    x = features(2, 3, 6, 5, 4).permute(0, 1, 4, 3, 2)
    torch.testing.assert_close(layer(x), layer(x.contiguous()))
    last = features(6, 4, 5, 6).to(memory_format=torch.channels_last)
    folded = sharpen(DualAttention(4, num_images=3))
    torch.testing.assert_close(folded(last), folded(last.contiguous()))


@pytest.mark.parametrize(
    "settings,message",
    [
        ({"in_channels": 0}, "in_channels"),
        ({"in_channels": 4, "kernel_size": 2}, "kernel_size must be odd, got 2"),
        ({"in_channels": 4, "init": "ones"}, "init must be .* got 'ones'"),
        ({"in_channels": 4, "num_images": 0}, "num_images"),
        ({"in_channels": 4, "temperature": 0.0}, "temperature .* got 0.0"),
        ({"in_channels": 4, "temperature": float("nan")}, "temperature"),
    ],
)
@pytest.mark.parametrize("kind", [ContextualAttention, SpatialAttention])
def test_bad_settings(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)


def test_bad_dual_settings():
    with pytest.raises(ValueError, match="contextual and spatial"):
        DualAttention(4, contextual=False, spatial=False)
    with pytest.raises(ValueError, match=r"spatial_input .* got 'both'"):
        DualAttention(4, spatial_input="both")
    for name in ("contextual_temperature", "spatial_temperature"):
        with pytest.raises(ValueError, match=f"^{name} must be .* got -1"):
            DualAttention(4, **{name: -1.0})


@pytest.mark.parametrize("kind", LAYERS)
def test_bad_input(kind):
    with pytest.raises(ValueError, match="4 channels, got 5"):
        kind(4)(torch.zeros(1, 3, 5, 2, 2))
    with pytest.raises(ValueError, match="num_images"):
        kind(4)(torch.zeros(3, 4, 2, 2))
    with pytest.raises(ValueError, match=r"multiple of num_images \(3\) images, got 4"):
        kind(4, num_images=3)(torch.zeros(4, 4, 2, 2))
    with pytest.raises(ValueError, match="4 or 5 dimensions"):
        kind(4)(torch.zeros(4, 2, 2))
    with pytest.raises(ValueError, match=r"num_images \(3\) images a sample, got 5"):
        kind(4, num_images=3)(torch.zeros(2, 5, 4, 2, 2))
    with pytest.raises(TypeError, match="x must be a tensor, got ndarray"):
        kind(4)(torch.zeros(1, 3, 4, 2, 2).numpy())


def test_bad_masks():
    x = torch.zeros(2, 3, 4, 2, 2)
    with pytest.raises(ValueError, match=r"mask must be bool of shape \(2, 3\)"):
        ContextualAttention(4)(x, mask=torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="mask must be bool"):
        ContextualAttention(4)(x, mask=torch.ones(2, 3))
    with pytest.raises(TypeError, match="mask must be a tensor, got list"):
        ContextualAttention(4)(x, mask=[[True] * 3] * 2)
    with pytest.raises(ValueError, match="mask and logits need contextual=True"):
        DualAttention(4, contextual=False)(x, mask=torch.ones(2, 3, dtype=torch.bool))


def test_repr_shows_the_settings():
    assert "temperature=1.5" in repr(ContextualAttention(4, temperature=1.5))
    assert "spatial_input='raw'" in repr(DualAttention(4, spatial_input="raw"))
