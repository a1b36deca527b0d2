"""Searching a scan image by image gives what searching it sample by sample gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lesionkit.data import CTVolume, Preprocessing, prepare_sample
from lesionkit.data.slice_grid import SliceGrid
from lesionkit.inference import detect_sample, detect_volume
from lesionkit.inference.streaming import detect_grid
from lesionkit.models import PRESETS, LesionDetector

TINY = replace(PRESETS["tiny"], score_threshold=0.0, rpn_post_nms=(300, 20))
FEET_FIRST = np.diag([1.0, 1.0, 1.0])
HEAD_FIRST = np.diag([1.0, 1.0, -1.0])


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def model_of(**changes):
    preprocessing = replace(TINY.preprocessing, **changes.pop("preprocessing", {}))
    torch.manual_seed(0)
    model = LesionDetector(replace(TINY, preprocessing=preprocessing, **changes)).eval()
    for layer in model.attention.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.normal_(layer.weight, std=0.5)  # weights far from 1
    return model


def scan(slices=9, interval=2.0, direction=HEAD_FIRST, size=(60, 72)):
    rng = np.random.default_rng(slices)
    coarse = rng.normal(0, 150, (slices, 6, 6))
    hu = coarse.repeat(size[0] // 6, 1).repeat(size[1] // 6, 2)
    return CTVolume(
        hu=hu.astype(np.int16),
        spacing=(2.0, 2.0, interval),
        origin=(0.0, 0.0, 0.0),
        direction=direction,
        source="blocks",
    )


def one_by_one(model, grid, position):
    """The sample around a position, made and searched as every other sample is."""
    images, transform = prepare_sample(
        grid.hu,
        position,
        grid.volume.spacing[0],
        grid.preprocessing.slice_interval,
        grid.preprocessing,
        first=0,
        last=len(grid) - 1,
        crop=grid.crop,
    )
    return detect_sample(model, images, transform)


@pytest.mark.parametrize(
    "interval,changes",
    [
        (2.0, {}),
        (5.0, {}),
        (1.0, {"contextual": False}),
        (2.5, {"spatial": False}),
        (2.5, {"contextual": False, "spatial": False}),
        (2.5, {"contextual": False, "rpn_input": "raw"}),
        (2.5, {"rpn_input": "raw"}),
        (2.5, {"spatial_input": "raw"}),
        (2.5, {"preprocessing": {"num_images": 5}}),
        (2.5, {"preprocessing": {"num_images": 1}}),
        (2.5, {"preprocessing": {"slice_interval": 0.0}}),
        (2.5, {"preprocessing": {"interpolation": "legacy"}}),
        (2.5, {"attention_kernel_size": 3}),
    ],
    ids=str,
)
def test_equals_sample_by_sample(interval, changes):
    model = model_of(**changes)
    grid = SliceGrid(scan(7, interval), model.config.preprocessing)
    found = list(detect_grid(model, grid, range(len(grid)), batch_size=3))
    assert [position for position, _ in found] == list(range(len(grid)))
    for position, detections in found:
        expected = one_by_one(model, grid, position)
        assert len(expected["scores"]) > 2
        np.testing.assert_allclose(detections["boxes"], expected["boxes"], atol=1e-3)
        np.testing.assert_allclose(detections["scores"], expected["scores"], atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"contextual": False, "spatial": False}], ids=str)
def test_images_pass_through_the_backbone_once(changes):
    model = model_of(preprocessing={"num_images": 5}, **changes)
    images = []
    model.backbone.register_forward_hook(lambda module, given, _: images.append(len(given[0])))
    grid = SliceGrid(scan(20, 2.5), model.config.preprocessing)
    list(detect_grid(model, grid, range(len(grid)), batch_size=4))
    # One for each position, and one beyond each end, where all slices are the last.
    assert sum(images) == len(grid) + 2 == 26
    assert max(images) == 4


def test_memory_does_not_grow_with_the_scan(monkeypatch):
    from lesionkit.inference import streaming

    kept = []
    forget = streaming._Window._forget

    def counted(window, first):
        forget(window, first)
        kept.append((len(window._parts), len(window._slices)))

    monkeypatch.setattr(streaming._Window, "_forget", counted)
    model = model_of(preprocessing={"num_images": 3}, contextual=False)
    grid = SliceGrid(scan(40), model.config.preprocessing)
    list(detect_grid(model, grid, range(len(grid)), batch_size=4))
    parts, slices = zip(*kept, strict=True)
    assert max(parts[5:]) <= max(parts[:5]) <= 12
    assert max(slices[5:]) <= max(slices[:5]) <= 16


def test_chosen_positions_give_what_all_give():
    model = model_of()
    volume = scan(12, 1.0)
    every = detect_volume(model, volume)
    assert list(every) == [0, 2, 4, 6, 8, 10]
    some = detect_volume(model, volume, [4, 9], batch_size=1)
    assert list(some) == [4, 8]
    for place, detections in some.items():
        np.testing.assert_allclose(detections["boxes"], every[place]["boxes"], atol=1e-4)


def test_scan_runs_from_head_to_feet_in_either_order():
    model = model_of()
    volume = scan(7, 3.0)
    turned = replace(volume, hu=volume.hu[::-1].copy(), direction=FEET_FIRST)
    found, same = detect_volume(model, volume), detect_volume(model, turned)
    assert list(same) == pytest.approx([6 - place for place in found])
    for a, b in zip(found.values(), same.values(), strict=True):
        np.testing.assert_array_equal(a["boxes"], b["boxes"])


def test_one_slice_and_progress():
    calls = []
    found = detect_volume(model_of(), scan(1), progress=lambda *done: calls.append(done))
    assert list(found) == [0.0]
    assert calls == [(1, 1)]


def test_slices_that_are_not_there():
    with pytest.raises(ValueError, match=r"slices must be in 0\.\.8 .* got -1"):
        detect_volume(model_of(), scan(), [-1])
    with pytest.raises(TypeError, match="float"):
        detect_volume(model_of(), scan(), [1.0])


@pytest.mark.parametrize(
    "slices,interval,positions", [(9, 2.0, 9), (9, 1.0, 5), (9, 5.0, 21), (9, 3.0, 13), (1, 2.0, 1)]
)
def test_grid_positions(slices, interval, positions):
    grid = SliceGrid(scan(slices, interval), Preprocessing())
    assert len(grid) == positions
    places = [grid.slice_of(p) for p in range(len(grid))]
    np.testing.assert_allclose(places, np.arange(positions) * 2 / interval)
    assert places[-1] <= slices - 1
    for number in range(slices):  # no slice is left out when it is asked for
        nearest = min(abs(grid.slice_of(p) - number) for p in grid.positions_of([number]))
        assert nearest <= max(0.5, 1 / interval) + 1e-9


def test_grid_blends_neighbours():
    hu = np.zeros((3, 40, 40), np.int16)
    hu[:] = np.array([0, 100, 300])[:, None, None]
    volume = replace(scan(3, 5.0), hu=hu)
    grid = SliceGrid(volume, Preprocessing())
    values = [grid.hu(p)[0, 0] for p in range(-1, len(grid) + 2)]
    np.testing.assert_allclose(values, [0, 0, 40, 80, 140, 220, 300, 300, 300], rtol=1e-6)
