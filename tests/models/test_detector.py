from dataclasses import replace

import pytest
import torch

from lesionkit.data.preprocess import Preprocessing
from lesionkit.models import PRESETS, LesionDetector
from lesionkit.models.boxes import nms_inclusive
from tests.models.samples import TINY, boxes, detector, scan, step

LOSSES = ["loss_rpn_class", "loss_rpn_box", "loss_class", "loss_box"]


def test_training_gives_four_losses_and_every_gradient():
    model = detector()
    losses = step(model, scan(2, 3, 3, 48, 56), [boxes([10, 12, 21, 20]), boxes([30, 5, 40, 20])])
    assert list(losses) == LOSSES
    assert all(loss.ndim == 0 and loss.isfinite() and loss >= 0 for loss in losses.values())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if not name.endswith("phi.bias"):  # moves all logits alike
            assert parameter.grad.any(), name


def test_detections_are_suppressed_candidates():
    model, images = detector().eval(), scan(2, 3, 3, 48, 56)
    with torch.no_grad():
        found, candidates = model(images), model.candidates(images)
    for f, c in zip(found, candidates, strict=True):
        keep = nms_inclusive(c["boxes"], c["scores"], 0.3)
        assert torch.equal(f["boxes"], c["boxes"][keep])
        assert torch.equal(f["scores"], c["scores"][keep])
        assert 0 < len(keep) < len(c["scores"])
        assert (f["scores"].diff() <= 0).all()
        x1, y1, x2, y2 = f["boxes"].unbind(1)
        assert (x1 >= 0).all()
        assert (y1 >= 0).all()
        assert (x2 >= x1).all()
        assert (y2 >= y1).all()
        assert (x2 <= 55).all()
        assert (y2 <= 47).all()


def test_same_seed_same_training_step():
    images, targets = scan(2, 3, 3, 48, 56), [boxes([10, 12, 21, 20])] * 2
    runs = []
    for _ in range(2):
        model = detector()
        losses = step(model, images, targets)
        runs.append([*losses.values(), *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("num_images", [1, 3, 5])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"contextual": False, "spatial": False},
        {"spatial": False, "num_fc": 2},
        {"contextual": False, "rpn_input": "raw"},
        {"spatial_input": "raw", "attention_kernel_size": 3, "init": "normal"},
    ],
)
def test_every_kind_of_model_trains_and_detects(num_images, changes):
    config = replace(TINY, preprocessing=Preprocessing(num_images=num_images), **changes)
    model, images = detector(config), scan(1, num_images, 3, 33, 47)
    losses = step(model, images, [boxes([10, 12, 21, 20])])
    assert all(loss.isfinite() for loss in losses.values())
    (found,) = model.eval()(images)
    assert found["boxes"].shape == (len(found["scores"]), 4)


def test_attention_has_the_configured_settings():
    attention = detector(
        replace(
            TINY,
            contextual_temperature=1.5,
            spatial_temperature=2.5,
            spatial_input="raw",
            attention_kernel_size=3,
        )
    ).attention
    assert attention.contextual.temperature == 1.5
    assert attention.spatial.temperature == 2.5
    assert attention.spatial_input == "raw"
    assert attention.contextual.phi.kernel_size == attention.spatial.phi.kernel_size == (3, 3)


def test_zero_attention_is_the_model_without_attention():
    plain = detector(replace(TINY, contextual=False, spatial=False))
    attended = detector(replace(TINY, attention_init="zero"))
    attended.load_state_dict(plain.state_dict(), strict=False)
    images = scan(1, 3, 3, 40, 40)
    for a, b in zip(attended.eval()(images), plain.eval()(images), strict=True):
        assert torch.equal(a["boxes"], b["boxes"])
        assert torch.equal(a["scores"], b["scores"])


def test_proposals_come_from_the_chosen_features():
    model = detector()
    raw = detector(replace(TINY, rpn_input="raw"))
    raw.load_state_dict(model.state_dict())
    for layer in (model.attention, raw.attention):
        for module in (layer.contextual, layer.spatial):
            torch.nn.init.normal_(module.phi.weight, generator=torch.Generator().manual_seed(0))
    images = scan(1, 3, 3, 40, 40)
    attended_features, attended_logits, _ = model.features(images)
    raw_features, raw_logits, _ = raw.features(images)
    torch.testing.assert_close(attended_features, raw_features)
    key = raw.backbone(images[0])[1:2]
    torch.testing.assert_close(raw_logits, raw.rpn(key)[0])
    assert not torch.allclose(attended_logits, raw_logits, atol=1e-3)


def test_scales_set_the_least_proposal():
    model, images = detector().eval(), scan(2, 3, 3, 48, 48)
    images[1] = images[0]
    first, second = model.candidates(images, scales=[0.5, 100.0])
    assert len(first["boxes"]) > 0
    assert len(second["boxes"]) == 0


def test_learns_one_sample():
    torch.manual_seed(0)
    config = replace(TINY, preprocessing=Preprocessing(num_images=1))
    model = LesionDetector(config)
    images = scan(1, 1, 3, 48, 48) / 4
    images[..., 12:25, 20:31] += 60
    targets = [boxes([20, 12, 30, 24])]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    totals = []
    for _ in range(60):
        total = sum(model(images, targets).values())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        totals.append(total.item())
    assert sum(totals[-5:]) < 0.5 * sum(totals[:5])
    (found,) = model.eval()(images)
    best = found["boxes"][0]
    assert (best - targets[0]["boxes"][0]).abs().max() < 3
    assert found["scores"][0] > 0.5


def test_paper_preset():
    model = detector("3dce_cs_att").eval()
    with torch.no_grad():
        (found,) = model(scan(1, 3, 3, 64, 64))
    assert found["boxes"].shape == (len(found["scores"]), 4)
    counts = {n: sum(p.numel() for p in m.parameters()) for n, m in model.named_children()}
    assert counts == {
        "backbone": 14_714_688,
        "attention": 2 * (512 * 512 + 512),
        "rpn": 512 * 256 * 9 + 256 + 257 * 90,
        "head": 513 * 490 + (490 * 3 + 1) * 2048 + 2049 * 6,
    }


def test_initial_weights_of_3dce():
    model = detector("3dce")
    for layer, std in (
        (model.rpn.conv, 0.01),
        (model.rpn.classes, 0.01),
        (model.rpn.boxes, 0.001),
        (model.head.maps, 0.01),
        (model.head.hidden[0], 0.001),
        (model.head.classes, 0.01),
        (model.head.boxes, 0.001),
    ):
        assert layer.weight.std().item() == pytest.approx(std, rel=0.05)
        assert not layer.bias.any()


@pytest.mark.parametrize("preset", ["3dce_cs_att", "3dce"])
@pytest.mark.parametrize("num_images", [3, 5, 7, 9])
def test_sizes_of_the_paper(preset, num_images):
    """9, 15, 21 and 27 slices: only the first hidden layer grows."""
    preprocessing = Preprocessing(num_images=num_images)
    with torch.device("meta"):
        model = LesionDetector(replace(PRESETS[preset], preprocessing=preprocessing))
    assert model.backbone[0].weight.shape == (64, 3, 3, 3)
    assert model.head.maps.weight.shape == (490, 512, 1, 1)
    assert model.head.hidden[0].weight.shape == (2048, 490 * num_images)
    assert model.rpn.classes.out_channels == 30
    phis = [p for name, p in model.named_parameters() if name.endswith("phi.weight")]
    assert [tuple(p.shape) for p in phis] == [(512, 512, 1, 1)] * 2 * (preset == "3dce_cs_att")


def test_seeds_choose_the_boxes():
    images, targets = scan(2, 3, 3, 48, 56), [boxes([10, 12, 21, 20]), boxes([30, 5, 40, 20])]
    model = detector().train()
    one, same, other = (model(images, targets, None, seeds) for seeds in ((1, 2), (1, 2), (1, 3)))
    assert all(torch.equal(one[name], same[name]) for name in LOSSES)
    assert not all(torch.equal(one[name], other[name]) for name in LOSSES)
    for wrong in ((1,), (1, -2), (1, 0.5)):
        with pytest.raises(ValueError, match="seeds must be 2 integers"):
            model(images, targets, None, wrong)
