from dataclasses import replace

import numpy as np
import pytest
import torch

from lesionkit.data import CTVolume, DeepLesion, prepare_volume_sample, synthesize
from lesionkit.errors import InputError
from lesionkit.inference import (
    detect_sample,
    detect_volume,
    evaluate_dataset,
)
from lesionkit.models import PRESETS, LesionDetector

CONFIG = replace(PRESETS["tiny"], score_threshold=0.0)


@pytest.fixture(scope="module")
def model():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield LesionDetector(CONFIG).eval()
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def volume():
    rng = np.random.default_rng(0)
    return CTVolume(
        hu=rng.integers(-200, 300, (5, 96, 128)).astype(np.int16),
        spacing=(1.5, 1.5, 3.0),
        origin=(0.0, 0.0, 0.0),
        direction=np.eye(3),
        source="noise",
    )


def test_sample_boxes_are_in_pixels_of_the_slice(model, volume):
    images, transform = prepare_volume_sample(volume, 2, CONFIG.preprocessing)
    assert transform.scale == pytest.approx(0.75)
    found = detect_sample(model, images, transform)
    with torch.inference_mode():
        (network,) = model(images[None], scales=[transform.scale])
    assert found["boxes"].shape == (len(found["scores"]), 4)
    # The best box survives any suppression, in whichever pixels it is done.
    expected = transform.to_original(network["boxes"][0].numpy())
    np.testing.assert_allclose(found["boxes"][0], expected, atol=1e-4)
    assert found["boxes"][:, 2].max() > 96 * 0.75  # beyond what the network's own pixels reach


def test_sample_is_sorted_and_suppressed(model, volume):
    found = detect_sample(model, *prepare_volume_sample(volume, 2, CONFIG.preprocessing))
    scores, boxes = found["scores"], found["boxes"].astype(float)
    assert len(scores) > 3
    assert (np.diff(scores) <= 0).all()
    first, last = boxes[:, None, :2], boxes[:, None, 2:] + 1
    shared = np.minimum(last, last.swapaxes(0, 1)) - np.maximum(first, first.swapaxes(0, 1))
    shared = shared.clip(0).prod(2)
    area = np.diagonal(shared)
    iou = shared / (area[:, None] + area - shared)
    assert (iou[~np.eye(len(iou), dtype=bool)] <= 0.3 + 1e-5).all()


@pytest.mark.parametrize(
    "size,spacing", [((64, 64), 0.01), ((2, 2), 1.5), ((3, 512), 2.0), ((512, 1), 0.7)]
)
def test_scans_too_small_for_the_network(model, volume, size, spacing):
    hu = np.zeros((5, *size), np.int16)
    small = replace(volume, hu=hu, spacing=(spacing, spacing, 3.0))
    with pytest.raises(InputError, match=r"noise: too small.* needs 4 x 4 .* 8 mm"):
        detect_volume(model, small)


def test_dataset_in_order(model, tmp_path):
    synthesize(tmp_path / "data", 3, seed=2, image_size=64, workers=1)
    dataset = DeepLesion(tmp_path / "data")
    found = evaluate_dataset(model, dataset)
    assert len(found) == len(dataset)
    assert all(entry["boxes"].shape == (len(entry["scores"]), 4) for entry in found)
    again = evaluate_dataset(model, DeepLesion(tmp_path / "data", split="test"))
    index = next(i for i, record in enumerate(dataset) if record.lesions[0].split == 3)
    np.testing.assert_array_equal(found[index]["boxes"], again[0]["boxes"])
