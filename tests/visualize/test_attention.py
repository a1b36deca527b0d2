from dataclasses import replace

import numpy as np
import pytest
import torch

from lesionkit.data.preprocess import Preprocessing, prepare_volume_sample
from lesionkit.errors import InputError
from lesionkit.models import PRESETS
from lesionkit.visualize.attention import (
    _patch,
    _sorted_channels,
    check_attention,
    draw_contextual,
    draw_spatial,
    scan_attention,
)

from .scenes import BOX, detector, scan

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def attention():
    return scan_attention(detector(), scan(), 7)


def test_weights_are_those_that_the_detector_multiplies_by(attention):
    model = detector()
    images, transform = prepare_volume_sample(scan(), 7, model.config.preprocessing)
    with torch.inference_mode():
        features = model.backbone(images)
        attended = model.attention(features[None])[0]
    product = features.numpy() * attention.weights["contextual"] * attention.weights["spatial"]
    np.testing.assert_allclose(product, attended.numpy(), atol=1e-5)
    assert attention.transform == transform
    np.testing.assert_allclose(attention.weights["contextual"].max(0), 1)
    np.testing.assert_allclose(attention.weights["spatial"].max((2, 3)), 1)
    assert attention.weights["contextual"].min() < 0.5  # something to see


def test_slices_are_those_of_the_sample_in_hu(attention):
    images, _ = prepare_volume_sample(scan(), 7, Preprocessing(pixel_spacing=2.0, max_size=192))
    np.testing.assert_allclose(attention.hu, (images.numpy() + 50) * 4095 / 255 - 1024, atol=0.01)
    assert attention.spacing == pytest.approx(2)
    assert [attention.offsets(q) for q in range(3)] == [(-8, -6, -4), (-2, 0, 2), (4, 6, 8)]


def test_cells_cover_the_lesion(attention):
    cells = attention.cells(BOX)
    x1, y1, x2, y2 = attention.box(BOX)
    assert len(cells) == 16  # 16 pixels a side, 4 a cell
    for row, column in cells:
        assert y1 <= 4 * row + 1.5 <= y2
        assert x1 <= 4 * column + 1.5 <= x2
    tiny = attention.cells((30, 30, 30, 30))
    assert tiny.tolist() == [attention.centre_cell((30, 30, 30, 30)).tolist()]
    shape = np.array(attention.weights["spatial"].shape[-2:])
    assert (attention.cells((-500, -500, -490, -490)) == 0).all()
    assert (attention.cells((900, 900, 901, 901)) == shape - 1).all()


def test_channels_are_sorted_and_none_is_lost():
    weights = np.random.default_rng(0).random((3, 20)).astype(np.float32)
    weights /= weights.max(0)
    sorted_weights = _sorted_channels(weights)
    assert (np.diff(sorted_weights.argmax(0)) >= 0).all()
    assert {*map(tuple, sorted_weights.T.tolist())} == {*map(tuple, weights.T.tolist())}


def test_patch_lies_inside_the_slice(attention):
    height, width = attention.hu.shape[-2:]
    for box in (BOX, (0, 0, 5, 5), (50, 50, 63, 63), (-90, 0, 90, 63)):
        left, right, bottom, top = _patch(attention, box)
        assert -0.5 <= left < right <= width - 0.5
        assert -0.5 <= top < bottom <= height - 0.5


def texts(figure):
    found = [figure._suptitle, figure._supxlabel, *figure.texts]
    for axes in figure.axes:
        found += [axes.title, axes.xaxis.label, axes.yaxis.label]
        found += [*axes.get_xticklabels(), *axes.get_yticklabels()]
    return [text for text in found if text and text.get_text()]


@pytest.mark.parametrize("images", [1, 3, 9])
def test_figures_are_1200_pixels_wide_and_no_text_is_cut_off(images):
    config = replace(PRESETS["tiny"].preprocessing, num_images=images)
    attention = scan_attention(detector(preprocessing=config), scan(), 7)
    figures = draw_contextual(attention, BOX), draw_spatial(attention, [BOX], "lung")
    for figure in figures:
        figure.canvas.draw()
        width, height = figure.canvas.get_width_height()
        assert width == 1200
        assert height < 2000
        for text in texts(figure):
            place = text.get_window_extent()
            assert place.x0 >= -1, text
            assert place.x1 <= width + 1, text
            assert place.y0 >= -1, text
            assert place.y1 <= height + 1, text
            assert text.get_fontsize() >= 9
    assert [text.get_text() for text in texts(figures[0])].count("key slice") == 1
    heat = [
        axes.images[0].get_array() for axes in figures[0].axes if "channels" in axes.get_xlabel()
    ]
    weights = attention.weights["contextual"]
    row, column = attention.centre_cell(BOX)
    np.testing.assert_array_equal(heat[0], _sorted_channels(weights[:, :, row, column]))


def test_unknown_distance_is_said():
    model = detector(preprocessing=replace(PRESETS["tiny"].preprocessing, slice_interval=0.0))
    attention = scan_attention(model, scan(), 7)
    assert attention.offsets(0) == (0, 0, 0)
    figure = draw_contextual(attention, BOX)
    assert "is not known" in figure._supxlabel.get_text()


def test_a_detector_with_one_of_the_two():
    attention = scan_attention(detector(contextual=False), scan(), 7)
    assert {*attention.weights} == {"spatial"}
    assert draw_spatial(attention).axes


def test_a_detector_without_attention_is_refused():
    model = detector(contextual=False, spatial=False)
    with pytest.raises(InputError, match=r"plain.safetensors: a detector without attention"):
        check_attention(model, "plain.safetensors")
    check_attention(detector(), "tiny")
