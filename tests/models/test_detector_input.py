"""What a detector accepts: sizes, types, empty samples, broken numbers; and what it refuses."""

import copy
from dataclasses import replace

import pytest
import torch

from lesionkit.models import PRESETS, DetectorConfig, LesionDetector
from tests.models.samples import TINY, boxes, detector, scan, step


def test_detections_do_not_depend_on_the_batch():
    model = detector().eval()
    small, large = scan(3, 3, 41, 35), scan(3, 3, 50, 64, seed=1)
    alone = [model(s[None])[0] for s in (small, large)]
    for a, b in zip(model([small, large]), alone, strict=True):
        assert torch.equal(a["boxes"], b["boxes"])
        assert torch.equal(a["scores"], b["scores"])
    together = model([small, small])
    torch.testing.assert_close(together[1]["boxes"].sort(0)[0], alone[0]["boxes"].sort(0)[0])


def test_padded_training_batch_keeps_the_real_features():
    model = detector(replace(TINY, contextual=False, spatial=False))
    small, large = scan(3, 3, 80, 80), scan(3, 3, 80, 120, seed=1)
    padded = torch.nn.functional.pad(small, (0, 40))
    features = model.backbone(padded)[..., :20]
    # Far from the padding nothing changes.
    torch.testing.assert_close(features[..., :8], model.backbone(small)[..., :8])
    losses = step(model, [small, large], [boxes([5, 5, 20, 20])] * 2)
    expected = step(model, torch.stack((padded, large)), [boxes([5, 5, 20, 20])] * 2)
    assert losses["loss_rpn_class"].isfinite()
    # The real size, not the padded one, limits the anchors.
    assert losses["loss_rpn_class"] != expected["loss_rpn_class"]


def test_samples_without_boxes():
    losses = step(detector(), scan(2, 3, 3, 40, 40), [boxes(), boxes()])
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["loss_rpn_box"] == losses["loss_box"] == 0
    losses = step(detector(), scan(2, 3, 3, 40, 40), [boxes(), boxes([5, 5, 20, 20])])
    assert losses["loss_box"] >= 0


def test_smallest_image():
    model = detector()
    losses = step(model, scan(1, 3, 3, 4, 5), [boxes([0, 0, 3, 3])])
    assert all(loss.isfinite() for loss in losses.values())
    model.eval()(scan(1, 3, 3, 4, 5))


def test_copies():
    model, images = detector().eval(), scan(1, 3, 3, 40, 40)
    (a,), (b,) = model(images), copy.deepcopy(model)(images)
    assert torch.equal(a["boxes"], b["boxes"])


def test_autocast():
    model, images = detector(), scan(1, 3, 3, 40, 40)
    with torch.autocast("cpu", torch.bfloat16):
        losses = step(model, images, [boxes([5, 5, 20, 20])])
        (found,) = model.eval()(images)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32


def test_bfloat16_keeps_boxes_in_float32():
    model, images = detector().bfloat16().eval(), scan(1, 3, 3, 24, 400)
    found = model.candidates(images.bfloat16())[0]
    assert found["boxes"].dtype == torch.float32
    # bfloat16 has no odd numbers above 256; the anchors must not be made in it.
    logits, deltas = torch.zeros(1, 10, 6, 100), torch.zeros(1, 20, 6, 100)
    anchors, _, _ = model.rpn._on_grid(logits[0], deltas[0], (24, 400))
    assert anchors[-5].tolist() == [395, 19, 401, 25]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_broken_pixels_are_no_empty_result(value):
    model, images = detector(), scan(2, 3, 3, 40, 40)
    images[1, 1, 0, 20, 20] = value
    model.train()(images, [boxes([5, 5, 20, 20])] * 2)  # the loss tells
    model.eval()
    for given in (images, list(images), [images[0, ..., :36], images[1]]):
        with pytest.raises(ValueError, match="images must be finite"):
            model(given)


@pytest.mark.parametrize("layer", ["backbone.stem", "rpn.classes", "rpn.boxes", "head.maps",
                                   "head.classes", "head.boxes"])  # fmt: skip
def test_broken_weights_are_no_empty_result(layer):
    model = detector().eval()
    with torch.no_grad():
        model.get_submodule(layer).bias[0] = torch.nan
    for run in (model, torch.compile(model, backend="eager")):
        with pytest.raises(FloatingPointError, match=r"not finite.* weights"):
            run(scan(1, 3, 3, 40, 40))


def test_double_images():
    for model in (detector().eval(), detector().bfloat16().eval()):
        with pytest.raises(ValueError, match=r"images\[0\] .*float64.*images\.to\("):
            model(scan(1, 3, 3, 40, 40).double())
    model = detector().double().eval()
    assert model(scan(1, 3, 3, 40, 40).double())[0]["scores"].isfinite().all()


def test_images_on_another_device():
    with pytest.raises(ValueError, match=r"images\[0\] .* cpu.*meta.*images\.to\("):
        detector().eval()(torch.zeros(1, 3, 3, 40, 40, device="meta"))


@pytest.mark.parametrize(
    "box",
    [[50, 5, 60, 9], [5, 44, 9, 50], [-9, 5, -1, 9], [5, -9, 9, -1.5], [0, 0, 1e30, 1e30],
     [-1e30, -1e30, 9, 9], [0, 0, 200, 9]],
)  # fmt: skip
def test_boxes_that_are_not_on_the_image(box):
    images = torch.zeros(2, 3, 3, 40, 44)
    with pytest.raises(ValueError, match=r"targets\[1\]\['boxes'\] must .*44 x 40"):
        detector().train()(images, [boxes(), boxes([5, 5, 9, 9], box)])


def test_boxes_that_lie_partly_on_the_image():
    losses = step(detector(), scan(1, 3, 3, 40, 44), [boxes([-8, -8, 4, 4], [40, 36, 70, 60])])
    assert all(loss.isfinite() for loss in losses.values())


def test_compiled_model_equals_eager():
    model = detector()
    images, targets = scan(2, 3, 3, 40, 44), [boxes([5, 5, 20, 20]), boxes()]
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager")
    results = []
    for run in (model, compiled):
        torch.manual_seed(1)
        losses = run.train()(images, targets)
        model.zero_grad()
        sum(losses.values()).backward()
        with torch.no_grad():
            found = run.eval()(images)
        results.append(
            [*losses.values(), *(p.grad.clone() for p in model.parameters())]
            + [value for f in found for value in f.values()]
        )
    for eager, other in zip(*results, strict=True):
        torch.testing.assert_close(other, eager)


@pytest.mark.parametrize(
    "images,message",
    [
        (torch.zeros(3, 3, 40, 40), r"images must be \[B, M, 3, H, W\]"),
        (torch.zeros(1, 5, 3, 40, 40), r"images\[0\] must be \[3, 3, h, w\]"),
        (torch.zeros(1, 3, 1, 40, 40), r"images\[0\]"),
        ([torch.zeros(3, 3, 40, 40), torch.zeros(3, 3, 3, 40)], r"images\[1\] .* h and w >= 4"),
        (torch.zeros(1, 3, 3, 40, 40, dtype=torch.int16), "floating point, got torch.int16"),
        ([], "at least one sample"),
    ],
)
def test_bad_images(images, message):
    with pytest.raises(ValueError, match=message):
        detector().eval()(images)


@pytest.mark.parametrize(
    "images,message",
    [
        (None, "images must be a tensor .* or a list of tensors .* got NoneType"),
        (torch.zeros(1, 3, 3, 40, 40).numpy(), "images .* got ndarray"),
        ({"images": torch.zeros(1, 3, 3, 40, 40)}, "images .* got dict"),
        ([torch.zeros(3, 3, 40, 40).numpy()], r"images\[0\] must be a tensor, got ndarray"),
        ([torch.zeros(3, 3, 40, 40), "scan"], r"images\[1\] must be a tensor, got str"),
    ],
)
def test_images_of_other_types(images, message):
    with pytest.raises(TypeError, match=message):
        detector().eval()(images)


@pytest.mark.parametrize(
    "targets,message",
    [
        (boxes(), "targets must be a list of one dict per sample, got dict"),
        ([boxes(), torch.zeros(1, 4)], r"targets\[1\] must be a dict, got Tensor"),
        ([{"boxes": [[1, 2, 3, 4]]}, boxes()], r"targets\[0\]\['boxes'\] .* got list"),
        ([boxes(), {"boxes": None}], r"targets\[1\]\['boxes'\] .* got NoneType"),
        ([boxes(), {"boxes": torch.zeros(1, 4).bool()}], "real numbers, got torch.bool"),
    ],
)
def test_targets_of_other_types(targets, message):
    with pytest.raises(TypeError, match=message):
        detector().train()(torch.zeros(2, 3, 3, 40, 40), targets)


@pytest.mark.parametrize(
    "targets,message",
    [
        (None, "one dict per sample .2., got None"),
        ([boxes()], "one dict per sample .2., got 1"),
        ([boxes(), {"boxes": torch.zeros(4)}], r"targets\[1\]\['boxes'\] must be \[g, 4\]"),
        ([boxes(), {"labels": torch.zeros(1), 1: None}], r"targets\[1\] must have 'boxes'"),
        ([boxes(), boxes([5, 5, 4, 9])], r"targets\[1\].* x2 >= x1"),
        ([boxes([0, 0, float("nan"), 9]), boxes()], r"targets\[0\].* finite"),
    ],
)
def test_bad_targets(targets, message):
    with pytest.raises(ValueError, match=message):
        detector().train()(torch.zeros(2, 3, 3, 40, 40), targets)


@pytest.mark.parametrize("scales", [[1.0, 1.0], [0.0], [float("nan")]])
def test_bad_scales(scales):
    with pytest.raises(ValueError, match="scales must be 1 finite"):
        detector().eval()(torch.zeros(1, 3, 3, 40, 40), scales=scales)


@pytest.mark.parametrize("scales", [1.0, "a", ["a"], [None]])
def test_scales_of_other_types(scales):
    with pytest.raises(TypeError, match="scales must be 1 numbers, got"):
        detector().eval()(torch.zeros(1, 3, 3, 40, 40), scales=scales)


def test_bad_calls():
    with pytest.raises(ValueError, match=r"config must be one of .*tiny.* got 'vgg'"):
        LesionDetector("vgg")
    with pytest.raises(TypeError, match=r"config must be a DetectorConfig .*from_dict"):
        LesionDetector(TINY.to_dict())
    with pytest.raises(ValueError, match="evaluation mode"):
        detector().train().candidates(torch.zeros(1, 3, 3, 40, 40))


def test_default_config_is_the_paper_without_pretraining():
    assert replace(DetectorConfig(), backbone_weights="torchvision") == PRESETS["3dce_cs_att"]
