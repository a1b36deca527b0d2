import dataclasses
import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lesionkit.data.preprocess import (
    PixelTransform,
    Preprocessing,
    prepare_key_slice,
    prepare_sample,
    prepare_volume_sample,
)
from lesionkit.errors import InputError

PLAIN = Preprocessing(window=(0.0, 2550.0), mean=0.0, crop=False)  # 10 HU a grey level, scale 1


def ramp(number: int) -> np.ndarray:
    return np.full((8, 8), 1000 + 10 * number, np.int16)


def positions(interval: float, read_slice=ramp, **fields) -> list[float]:
    """Where the slices of a sample come from, in slices from the key, read off a ramp."""
    preprocessing = dataclasses.replace(PLAIN, **fields)
    images, _ = prepare_sample(read_slice, 50, 0.8, interval, preprocessing)
    assert images.shape == (preprocessing.num_images, 3, 8, 8)
    assert images.dtype == torch.float32
    assert torch.equal(images, images[..., :1, :1].expand_as(images))
    return [round(z - 150, 4) for z in images[:, :, 0, 0].flatten().tolist()]


# Seven neighbours need 5 images (15 slices); the legacy column is what the 3DCE code produces.
@pytest.mark.parametrize(
    "interval, exact, legacy",
    [
        (5.0, [0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 2.8], [0.4, 0.4, 1.4, 1.4, 2.0, 2.4, 2.4]),
        (3.0, [0.6667, 1.3333, 2, 2.6667, 3.3333], [0.6667, 1.6667, 2, 2.6667, 3.6667]),
        (2.5, [0.8, 1.6, 2.4, 3.2, 4.0], [0.8, 1.8, 2.8, 3.8, 4.0]),
        (2.0, [1, 2, 3, 4], [1, 2, 3, 4]),
        (1.0, [2, 4, 6, 8], [2, 4, 6, 8]),
    ],
)
def test_slices_are_taken_2_mm_apart(interval, exact, legacy):
    for name, following in ("exact", exact), ("legacy", legacy):
        count = len(following)
        produced = positions(interval, num_images=5, interpolation=name)
        assert produced[7:][: count + 1] == pytest.approx([0, *following], abs=2e-4)
        assert produced == [-z for z in reversed(produced)]


@pytest.mark.parametrize("interpolation", ["exact", "legacy"])
@pytest.mark.parametrize("interval", [0.0, -2.0, float("nan")])
def test_unknown_interval_repeats_the_key_slice(interval, interpolation):
    assert positions(interval, interpolation=interpolation) == [0] * 9
    assert positions(1.0, slice_interval=0.0, interpolation=interpolation) == [0] * 9


def test_ends_repeat_the_last_slice_and_gaps_step_towards_the_key():
    missing = {46, 49, 53, 54}

    def read_slice(number):
        return ramp(number) if 45 <= number <= 56 and number not in missing else None

    # 49 -> key; 46 -> 47; 53 and 54 -> 52; beyond 45 and 56 -> 45 and 56
    assert positions(2.0, read_slice, num_images=5) == [
        -5, -5, -5, -3, -3, -2, 0, 0, 1, 2, 2, 2, 5, 6, 6
    ]  # fmt: skip
    # 4 mm: half-way slices blend a floor and a ceil neighbour that are replaced separately
    assert positions(4.0, read_slice) == [-2, -1, 0, 0, 0, 0.5, 1, 1.5, 2]
    missing.remove(54)  # 3.5 slices on: 53 is replaced by 52, 54 is there
    assert positions(4.0, read_slice, num_images=5)[10:] == [1.5, 2, 2, 2, 3]


@given(
    interval=st.sampled_from([0.7, 1, 1.25, 2.5, 3, 5, 7]),
    legacy=st.booleans(),
    absent=st.frozensets(st.integers(30, 70).filter(lambda n: n != 50)),
)
def test_every_slice_is_read_once_and_only_if_needed(interval, legacy, absent):
    asked = Counter()

    def read_slice(number):
        asked[number] += 1
        return None if number in absent else ramp(number)

    interpolation = "legacy" if legacy else "exact"
    positions(interval, read_slice, interpolation=interpolation)
    assert set(asked.values()) == {1}
    reach = int(np.ceil(4 * 2 / interval))
    assert min(asked) == 50 - reach
    assert max(asked) == 50 + reach
    asked.clear()
    prepare_sample(read_slice, 50, 0.8, interval, PLAIN, first=49, last=52)
    assert set(asked) <= {49, 50, 51, 52}  # slices outside are not asked for


def body_slice(rng, shape, dtype):
    hu = rng.integers(-1024, -900, shape)
    top, left = shape[0] // 5, shape[1] // 7
    hu[top:-9, left:-12] = rng.integers(-700, 1500, hu[top:-9, left:-12].shape)
    hu[2:8, :] = 200  # a table too thin to survive the opening
    return hu.astype(dtype)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("shape, spacing", [((90, 120), 0.7), ((120, 90), 0.93), ((64, 64), 0.8)])
def test_pipeline_matches_opencv_and_scipy(shape, spacing, dtype):
    cv2 = pytest.importorskip("cv2")
    ndimage = pytest.importorskip("scipy.ndimage")
    rng = np.random.default_rng(0)
    scan = [body_slice(rng, shape, dtype) for _ in range(9)]
    preprocessing = Preprocessing(max_size=100)
    images, transform = prepare_sample(scan.__getitem__, 4, spacing, 2.0, preprocessing)

    mask = ndimage.binary_opening(scan[4] > -768, np.ones((7, 7)))
    rows, columns = np.nonzero(mask)
    assert (transform.left, transform.top) == (columns.min(), rows.min()) != (0, 0)
    assert transform.top > 8  # the table is gone
    grey = (np.stack(scan, -1).astype(float) + 1024) / (3071 + 1024)
    grey = 255 * grey.clip(0, 1)[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = min(spacing / 0.8, 100 / max(grey.shape[:2]))
    assert transform.scale == pytest.approx(scale, rel=1e-12)
    expected = grey if scale == 1 else cv2.resize(grey, None, fx=scale, fy=scale)
    assert images.shape == (3, 3, *expected.shape[:2])
    assert max(images.shape[2:]) <= 100
    got = images.flatten(0, 1).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(got, expected - 50, atol=1e-3)


def test_a_slice_without_body_is_kept_whole():
    air = np.full((20, 30), -1000, np.int16)
    images, transform = prepare_sample(lambda _: air, 0, 0.8, 1.0, Preprocessing())
    assert images.shape == (3, 3, 20, 30)
    assert transform == PixelTransform(1.0, 0, 0)


def test_specks_that_are_no_body_leave_the_slice_whole():
    """A crop under 30 mm is a tube or a piece of the table on a slice of air."""
    hu = np.full((200, 160), -1000, np.int16)
    hu[150:170:2, 30:40] = 100  # stripes: the opening removes them
    images, transform = prepare_sample(lambda _: hu, 0, 0.8, 1.0, Preprocessing())
    assert (images.shape, transform) == ((3, 3, 200, 160), PixelTransform(1.0, 0, 0))
    hu[50:60, 20:120] = 100  # a bar of 8 x 80 mm: it survives, but is too thin for a body
    images, transform = prepare_sample(lambda _: hu, 0, 0.8, 1.0, Preprocessing())
    assert (images.shape, transform) == ((3, 3, 200, 160), PixelTransform(1.0, 0, 0))
    hu[50:90, 20:120] = 100  # 32 x 80 mm
    images, transform = prepare_sample(lambda _: hu, 0, 0.8, 1.0, Preprocessing())
    assert (images.shape, transform) == ((3, 3, 40, 100), PixelTransform(1.0, 20, 50))


def test_a_tiny_scale_keeps_one_pixel():
    images, _ = prepare_sample(lambda _: ramp(0)[:1], 0, 0.01, 1.0, PLAIN)
    assert images.shape == (3, 3, 1, 1)
    assert torch.all(images == 100)


def test_volume_and_deeplesion_give_the_same_sample():
    hu = np.random.default_rng(1).integers(-1024, 3000, (9, 40, 50)).astype(np.int16)
    preprocessing = Preprocessing(num_images=1)
    head_to_feet = {"spacing": (0.7, 0.7, 1.6), "source": "ct.nii"}
    volume = SimpleNamespace(hu=hu, direction=np.diag([1.0, 1.0, -1.0]), **head_to_feet)
    record = SimpleNamespace(file_name="a_01_01_005.png", key_slice=5, spacing=(0.7, 0.7, 1.6))

    class Dataset:
        def read_slice(self, asked, number):
            assert asked is record
            return (hu[number].astype(np.int32) + 32768).astype(np.uint16) if number < 9 else None

    from_volume = prepare_volume_sample(volume, 5, preprocessing)
    from_dataset = prepare_key_slice(Dataset(), record, preprocessing)
    assert from_volume[1] == from_dataset[1]
    torch.testing.assert_close(from_volume[0], from_dataset[0], rtol=0, atol=1e-4)
    feet_to_head = SimpleNamespace(hu=hu[::-1], direction=np.eye(3), **head_to_feet)
    assert torch.equal(prepare_volume_sample(feet_to_head, 3, preprocessing)[0], from_volume[0])
    prepare_volume_sample(volume, 8, Preprocessing())  # ends are bounded
    for key in -1, 9:
        with pytest.raises(ValueError, match=rf"key must be 0\.\.8.*got {key}"):
            prepare_volume_sample(volume, key, preprocessing)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"spacing": (0.7, 0.9, 1.0)}, r"ct\.nii: pixels are not square \(0\.7 x 0\.9 mm\)"),
        ({"spacing": (0.0, 0.0, 1.0)}, r"ct\.nii: pixel spacing .* got 0\.0"),
        ({"spacing": (float("nan"),) * 3}, r"ct\.nii: pixel spacing .* got nan"),
        ({"spacing": (0.7, 0.7, 1e-9)}, r"ct\.nii: slices 1e-09 mm apart"),
        ({"hu": np.zeros((3, 4, 4, 3))}, r"ct\.nii: slice 1 has shape \(4, 4, 3\)"),
        ({"hu": [np.zeros((4, 4)), np.zeros((4, 4)), np.zeros((4, 5))]}, r"slice 2 has shape"),
        ({"hu": [None, None, None]}, r"ct\.nii: key slice 1 does not exist"),
    ],
)
def test_bad_scans_are_refused(change, message):
    scan = {"hu": np.zeros((3, 4, 4)), "spacing": (0.7, 0.7, 2.0), "source": "ct.nii"}
    scan |= {"direction": np.diag([1.0, 1.0, -1.0])} | change
    with pytest.raises(InputError, match=message):
        prepare_volume_sample(SimpleNamespace(**scan), 1, Preprocessing())


def test_preprocessing_survives_json():
    preprocessing = Preprocessing(num_images=5, interpolation="legacy", window=(-175, 275))
    stored = json.loads(json.dumps(dataclasses.asdict(preprocessing)))
    assert Preprocessing(**stored) == preprocessing


@pytest.mark.parametrize(
    "field, values",
    [
        ("num_images", [0, 2, -1, 3.0, True, None]),
        ("slice_interval", [-1.0, float("nan"), float("inf"), "2"]),
        ("pixel_spacing", [0.0, -1.0, float("nan"), None]),
        ("max_size", [0, -5, 512.0]),
        ("window", [(5.0, 5.0), (9.0, 1.0), (0.0,), (0.0, float("inf")), ("a", "b"), None, 5]),
        ("mean", [float("nan"), None]),
        ("interpolation", ["nearest", None]),
        ("crop", [1, "yes"]),
    ],
)
def test_bad_numbers_name_the_field(field, values):
    for value in values:
        with pytest.raises(ValueError, match=field):
            Preprocessing(**{field: value})
