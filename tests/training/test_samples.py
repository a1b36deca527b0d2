from dataclasses import replace

import numpy as np
import pytest
import torch

from lesionkit.data import PixelTransform, Preprocessing
from lesionkit.training import TrainingConfig, scan_samples
from lesionkit.training.samples import Augmented, Sample, Samples

from .scans import BALL_BOX, ball_scan

PREPROCESSING = Preprocessing(num_images=1, pixel_spacing=2.0, max_size=64)


def test_scan_samples_put_the_box_on_the_ball():
    samples = scan_samples(ball_scan(), {4: BALL_BOX}, PREPROCESSING)
    assert len(samples) == 1
    sample = samples[0]
    x1, y1, x2, y2 = sample.boxes[0].int().tolist()
    key = sample.images[0, 1]
    bright = key > key.median() + 10
    assert bright[y1 : y2 + 1, x1 : x2 + 1].sum() == bright.sum() > 100
    np.testing.assert_array_equal(sample.truth, BALL_BOX)


def test_preload_prepares_once_and_keeps_within_bounds():
    calls = []

    def prepare(index: int) -> Sample:
        calls.append(index)
        boxes = torch.zeros(0, 4)
        return Sample(torch.full((10,), index), boxes, PixelTransform(1, 0, 0), boxes.numpy())

    samples = Samples(5, prepare)
    assert samples.preload(3 * 80) == 3  # three of 80 bytes fit
    calls.clear()
    assert [int(samples[i].images[0]) for i in range(5)] == [0, 1, 2, 3, 4]
    assert calls == [3, 4]


def test_preload_reports_progress():
    seen = []
    samples = scan_samples(ball_scan(), {3: BALL_BOX, 4: BALL_BOX}, PREPROCESSING)
    samples.preload(1e9, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_augmentation_moves_images_and_boxes_together():
    samples = scan_samples(ball_scan(), {4: BALL_BOX}, PREPROCESSING)
    augmented = Augmented(samples, TrainingConfig(flip=True, shift=5))
    seen = set()
    for augmented.epoch in range(12):
        sample = augmented[0]
        x1, y1, x2, y2 = sample.boxes[0].round().int().tolist()
        seen.add((x1, y1))
        key = sample.images[0, 1]
        bright = key > samples[0].images[0, 1].median() + 10
        assert bright[y1 : y2 + 1, x1 : x2 + 1].sum() == bright.sum() > 100
        assert (x2 - x1, y2 - y1) == (16, 16)
    assert len(seen) > 6


def test_augmentation_depends_on_seed_epoch_and_index_alone():
    def make(seed: int) -> Augmented:
        samples = scan_samples(ball_scan(), {3: BALL_BOX, 4: BALL_BOX}, PREPROCESSING)
        return Augmented(samples, TrainingConfig(flip=True, shift=9, seed=seed))

    first, again, other = make(1), make(1), make(2)
    last = first[1]
    again[0]
    assert torch.equal(last.images, again[1].images)
    assert not any(torch.equal(first[i].images, other[i].images) for i in (0, 1))
    again.epoch = 1
    assert not any(torch.equal(first[i].images, again[i].images) for i in (0, 1))


def test_moved_images_keep_their_size_and_boxes_stay_on_them():
    images = torch.arange(1.0, 3 * 20 * 30 + 1).reshape(1, 3, 20, 30)
    rows = torch.tensor([[2.0, 3, 9, 9], [20, 10, 28, 18], [27, 17, 29, 19]])
    sample = Sample(images, rows, PixelTransform(1, 0, 0), rows.numpy())
    augmented = Augmented(Samples(1, lambda _: sample), TrainingConfig(shift=6))
    counts = set()
    for augmented.epoch in range(20):
        moved = augmented[0]
        assert moved.images.shape == images.shape
        x, y = (moved.boxes[0, :2] - rows[0, :2]).int().tolist()
        assert 0 <= x <= 6
        assert 0 <= y <= 6
        assert torch.equal(moved.images[..., y:, x:], images[..., : 20 - y, : 30 - x])
        assert not moved.images[..., :y, :].any()
        assert not moved.images[..., :x].any()
        assert moved.boxes[1].tolist() == [20 + x, 10 + y, min(28 + x, 29), min(18 + y, 19)]
        counts.add(len(moved.boxes))
        assert len(moved.boxes) == (3 if x <= 2 and y <= 2 else 2)
    assert counts == {2, 3}
    tiny = replace(sample, images=images[..., :3, :4], boxes=rows[:0])
    small = Augmented(Samples(1, lambda _: tiny), TrainingConfig(shift=256))[0]
    assert small.images.shape == (1, 3, 3, 4)
    assert small.images.any()


def test_a_box_outside_of_the_body_is_no_target():
    volume = ball_scan()
    volume.hu[:, :, 52:] = -1000
    boxes = np.concatenate([BALL_BOX, [[58, 5, 62, 9]]]).astype(np.float32)
    sample = scan_samples(volume, {4: boxes}, PREPROCESSING)[0]
    assert len(sample.boxes) == 1
    assert len(sample.truth) == 2


def test_without_augmentation_samples_pass_through():
    samples = scan_samples(ball_scan(), {4: BALL_BOX}, PREPROCESSING)
    samples.preload(1e9)
    sample = Augmented(samples, TrainingConfig())[0]
    assert sample.images is samples[0].images
    assert torch.equal(sample.boxes, samples[0].boxes)


def test_missing_slice_of_the_scan():
    with pytest.raises(ValueError, match="key"):
        scan_samples(ball_scan(), {9: BALL_BOX}, PREPROCESSING)[0]
