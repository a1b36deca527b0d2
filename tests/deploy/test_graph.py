from dataclasses import replace

import pytest
import torch
from torchvision.ops import nms

from lesionkit.data.preprocess import Preprocessing
from lesionkit.deploy import graph
from lesionkit.deploy.graph import NOT_SETTLED, DetectorGraph, nms_rounds, suppress
from lesionkit.models import PRESETS, LesionDetector
from tests.models.samples import TINY, detector, scan

ONE = replace(TINY.preprocessing, num_images=1)


def assert_same(found, expected):
    """The graph's three outputs and the model's list."""
    boxes, scores, count = found
    assert boxes.shape == (len(expected), TINY.rpn_post_nms[1], 4)
    assert count.dtype == torch.int32
    assert count.tolist() == [len(one["scores"]) for one in expected]
    for b, one in enumerate(expected):
        n = len(one["scores"])
        torch.testing.assert_close(boxes[b, :n], one["boxes"], rtol=0, atol=1e-4)
        torch.testing.assert_close(scores[b, :n], one["scores"], rtol=0, atol=1e-6)
        assert not boxes[b, n:].any()
        assert not scores[b, n:].any()


@pytest.mark.parametrize(
    "changes,size",
    [
        ({}, (48, 64)),
        ({}, (37, 51)),  # no multiples of the stride
        ({}, (12, 16)),  # fewer anchors than proposals
        ({"spatial": False}, (32, 32)),
        ({"contextual": False, "rpn_input": "raw"}, (32, 32)),
        ({"spatial_input": "raw"}, (32, 32)),
        ({"contextual": False, "spatial": False, "preprocessing": ONE}, (32, 32)),
        ({"rpn_nms_iou": 1.0}, (32, 32)),
        ({"rpn_nms_iou": 0.0, "nms_iou": 0.0}, (32, 32)),
        ({"rpn_min_size": 20.0}, (48, 64)),
        ({"score_threshold": 0.5}, (48, 64)),
    ],
)
def test_equals_the_model(changes, size):
    model = detector(replace(TINY, **changes)).eval()
    images = scan(2, model.config.num_images, 3, *size)
    with torch.no_grad():
        expected = model(images)
        assert_same(DetectorGraph(model, size)(images), expected)
    assert any(len(one["scores"]) for one in expected)


@pytest.mark.parametrize("portion,topk", [(1000, 70), (64, 3840), (150, 101)])
def test_portions_change_nothing(monkeypatch, portion, topk):
    monkeypatch.setattr(graph, "PORTION", portion)
    monkeypatch.setattr(graph, "MAX_TOPK", topk)
    model = detector().eval()
    images = scan(2, 3, 3, 48, 64)
    with torch.no_grad():
        # The last TopK takes as many as there are proposals.
        monkeypatch.setattr(model, "config", replace(model.config, rpn_post_nms=(300, 64)))
        model.rpn.config = model.config
        expected = model(images)
        boxes, _, count = DetectorGraph(model, (48, 64))(images)
    assert count.tolist() == [len(one["scores"]) for one in expected]
    for b, one in enumerate(expected):
        torch.testing.assert_close(boxes[b, : count[b]], one["boxes"], rtol=0, atol=1e-4)


def test_nothing_found():
    model = detector(replace(TINY, rpn_min_size=1000.0)).eval()
    with torch.no_grad():
        outputs = DetectorGraph(model, (32, 32))(scan(2, 3, 3, 32, 32))
    assert not any(output.any() for output in outputs)


@pytest.mark.parametrize("layer", ["rpn.boxes", "rpn.classes", "head.boxes", "head.classes"])
def test_numbers_that_are_not_finite_are_told(layer):
    model = detector().eval()
    images = scan(2, 3, 3, 32, 32)
    with torch.no_grad():
        model.get_submodule(layer).weight.mul_(1e38)
        images[0] = 0
        model.get_submodule(layer).weight[0, 0] = torch.nan
        _, _, count = DetectorGraph(model, (32, 32))(images)
    assert (count == -1).all()


def test_one_broken_sample_leaves_the_others():
    model = detector().eval()
    images = scan(3, 3, 3, 32, 32)
    with torch.no_grad():
        expected = model(images)
        images[1, 2, 0, 5, 5] = torch.nan
        _, _, count = DetectorGraph(model, (32, 32))(images)
    assert count.tolist() == [len(expected[0]["scores"]), -1, len(expected[2]["scores"])]


def random_boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 40, (count, 2), generator=generator).float()
    return torch.cat((corner, corner + torch.randint(1, 20, (count, 2), generator=generator)), 1)


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.3, 0.5, 0.7, 1.0])
def test_suppress_is_torchvisions_nms(threshold):
    # Whole pixels: many pairs overlap by exactly the threshold.
    for seed in range(20):
        boxes = random_boxes(200, seed)
        ranks = torch.randperm(200, generator=torch.Generator().manual_seed(seed)) - 20.0
        ranks = ranks.clamp(min=0)
        candidates = (ranks > 0).nonzero()[:, 0]
        kept = nms(boxes[candidates], ranks[candidates], threshold)
        expected = torch.zeros(200)
        expected[candidates[kept]] = 1
        found = suppress(boxes[None], ranks[None], threshold, 32)[0]
        assert torch.equal(found[candidates], expected[candidates])


def chain(count):
    """Each box overlaps the next one only."""
    left = torch.arange(count) * 6.0
    return torch.stack((left, torch.zeros(count), left + 10, torch.full((count,), 10.0)), 1)


@pytest.mark.parametrize("rounds", [2, 10, 32])
def test_chains_are_settled_as_far_as_the_rounds_go(rounds):
    count = 2 * rounds
    found = suppress(chain(count)[None], torch.arange(count, 0, -1.0)[None], 0.2, rounds)[0]
    assert found[: rounds + 1].tolist() == [float(i % 2 == 0) for i in range(rounds + 1)]
    assert (found[rounds + 1 :] == 0.5).all()


def test_rounds_for_as_many_boxes_as_are_kept_suffice():
    # However long the chain: each kept box takes two rounds at most.
    kept = 20
    ranks = torch.arange(200, 0, -1.0)
    found = suppress(chain(200)[None], ranks[None], 0.2, nms_rounds((1 << 20, 8), 8, kept))[0]
    assert found[: 2 * kept].tolist() == [float(i % 2 == 0) for i in range(2 * kept)]


def test_suppression_that_does_not_settle_is_told():
    model = detector().eval()
    images = scan(2, 3, 3, 48, 64)
    with torch.no_grad():
        network = DetectorGraph(model, (48, 64))
        assert (network(images)[2] >= 0).all()
        network.rounds = 2
        assert (network(images)[2] == NOT_SETTLED).all()


def test_the_papers_detector_goes_in_portions():
    torch.manual_seed(3)
    config = replace(PRESETS["3dce"], preprocessing=Preprocessing(num_images=1), init="kaiming")
    model = LesionDetector(config).eval()
    images = scan(1, 1, 3, 96, 104)
    with torch.no_grad():
        (expected,) = model(images)
        boxes, scores, count = DetectorGraph(model, (96, 104))(images)
    assert graph.PORTION < 12 * 13 * 15
    assert count.tolist() == [len(expected["scores"])]
    torch.testing.assert_close(boxes[0, : count[0]], expected["boxes"], rtol=0, atol=1e-3)
    torch.testing.assert_close(scores[0, : count[0]], expected["scores"], rtol=0, atol=1e-5)
