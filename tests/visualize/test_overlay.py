import subprocess
import sys

import numpy as np
import pytest
import torch

from lesionkit.visualize import draw_boxes, save_grid, save_overlay
from lesionkit.visualize.overlay import DETECTION, FALSE_POSITIVE, TRUE_POSITIVE, TRUTH

Image = pytest.importorskip("PIL.Image")

WATER = np.zeros((100, 120), np.int16)
LESION = [40.0, 30.0, 59.0, 44.0]
ON_LESION = [41.0, 31.0, 60.0, 45.0, 0.9]
ELSEWHERE = [90.0, 60.0, 109.0, 79.0, 0.4]


def extent(picture, colour):
    """First column and row, last column and row with this colour on the slice, or None."""
    rows, columns = np.nonzero((np.asarray(picture)[:100] == colour).all(-1))
    return (columns.min(), rows.min(), columns.max(), rows.max()) if len(rows) else None


def outlined(picture, colour, box):
    """Is every pixel of the box's outline of this colour?"""
    x1, y1, x2, y2 = map(int, box)
    pixels = np.asarray(picture)
    edges = [pixels[y1, x1 : x2 + 1], pixels[y2, x1 : x2 + 1]]
    edges += [pixels[y1 : y2 + 1, x1], pixels[y1 : y2 + 1, x2]]
    return all((edge == colour).all() for edge in edges)


def test_truth_is_blue_on_its_inclusive_pixels():
    picture = draw_boxes(WATER, truth=[LESION], scale=1)
    assert picture.mode == "RGB"
    assert extent(picture, TRUTH) == (40, 30, 59, 44)
    assert extent(picture, FALSE_POSITIVE) is None
    enlarged = np.asarray(draw_boxes(WATER, truth=[LESION], scale=4))
    rows, columns = np.nonzero((enlarged[:400] == TRUTH).all(-1))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (160, 120, 239, 179)


def test_hits_are_solid_green_and_the_rest_dotted_red():
    picture = draw_boxes(WATER, [LESION], [ON_LESION, ELSEWHERE], scale=1)
    assert extent(picture, FALSE_POSITIVE)[2:] == (109, 79)
    top = np.asarray(picture)[60, 90:106]
    red = (top == FALSE_POSITIVE).all(-1).reshape(4, 4)  # two pixels, two pixels of gap
    assert red[:, :2].all()
    assert not red[:, 2:].any()
    loose = draw_boxes(WATER, [LESION], [ON_LESION], iou_threshold=0.1, scale=1)
    right = np.asarray(loose)[31:46, 60]
    assert (right == TRUE_POSITIVE).all()
    assert extent(picture, TRUE_POSITIVE)[2:] == (60, 45)
    assert extent(picture, TRUTH)[:2] == (40, 30)  # both remain to be seen
    strict = draw_boxes(WATER, [LESION], [ON_LESION], iou_threshold=0.9, scale=1)
    assert extent(strict, FALSE_POSITIVE)[2:] == (60, 45)
    assert extent(strict, TRUE_POSITIVE) is None


def test_truth_shows_through_a_detection_with_the_same_edges():
    picture = draw_boxes(WATER, [LESION], [[*LESION, 0.9]])
    outline = np.asarray(picture)[60:90, 80]
    assert {tuple(pixel) for pixel in outline.tolist()} == {TRUTH, TRUE_POSITIVE}


def test_without_truth_detections_are_yellow_and_with_no_lesion_red():
    unknown = draw_boxes(WATER, None, [ELSEWHERE], scale=1)
    assert outlined(unknown, DETECTION, ELSEWHERE[:4])
    healthy = draw_boxes(WATER, [], [ELSEWHERE], scale=1)
    assert extent(healthy, FALSE_POSITIVE)[2:] == (109, 79)


def test_scores_stay_inside_and_apart(monkeypatch):
    from PIL import ImageDraw

    written = []

    def text(self, xy, text, *args, font, **kwargs):
        written.append((text, *self.textbbox(xy, text, font=font)))

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    corners = [[0, 0, 20, 20], [100, 0, 119, 20], [0, 80, 20, 99], [100, 80, 119, 99]]
    crowd = [[0, 2, 20, 22], [50, 50, 70, 70], [50, 51, 70, 71], [52, 50, 72, 70]]
    found = [[*box, 0.5 + i / 100] for i, box in enumerate([*corners, *crowd])]
    draw_boxes(WATER, None, found)
    places = [place for label, *place in written if label != "detection"]
    assert len(places) == len(found)
    for i, (left, top, right, bottom) in enumerate(places):
        assert 0 <= left < right <= 240
        assert 0 <= top < bottom <= 200
        for other in places[:i]:
            assert left >= other[2] or other[0] >= right or top >= other[3] or other[1] >= bottom


@pytest.mark.parametrize("window", ["lung", "soft tissue", "bone", (-1350.0, 150.0)])
def test_window_maps_hu_to_grey(window):
    level, width = {"lung": (-600, 1500), "soft tissue": (50, 400), "bone": (400, 1800)}.get(
        window, (-600, 1500)
    )
    hu = np.array([[-32768, level - width / 2, level, level + width / 2, 32767]], np.float32)
    grey = np.asarray(draw_boxes(hu, window=window, scale=1))[0, :5]
    assert grey.tolist() == [[v] * 3 for v in (0, 0, 128, 255, 255)]


def test_title_and_legend_are_added_outside_the_slice():
    bare = draw_boxes(WATER, scale=3)
    assert bare.size == (360, 300)
    titled = draw_boxes(WATER, title="patient 7", scale=3)
    height = titled.height - 300
    assert 10 < height < 30
    np.testing.assert_array_equal(np.asarray(titled)[height:], np.asarray(bare))
    assert np.asarray(titled)[:height].max() > 200
    legend = np.asarray(draw_boxes(WATER, [], [], scale=3))[300:]
    for colour in TRUTH, TRUE_POSITIVE, FALSE_POSITIVE:
        assert (legend == colour).all(-1).sum() > 20
    assert (np.asarray(draw_boxes(WATER, None, [], scale=3))[300:] == DETECTION).all(-1).any()


def test_long_titles_and_narrow_slices_lose_no_text():
    words = ["000001_01_01_109.png", "spacing", "0.8", "mm"] * 5
    picture = np.asarray(draw_boxes(np.zeros((16, 16)), [], [], title=" ".join(words), scale=1))
    assert picture[:, -1].max() == 0  # text ends before the edge
    wider = np.asarray(draw_boxes(np.zeros((16, 500)), [], [], title=" ".join(words), scale=1))
    assert picture.shape[0] > wider.shape[0]


def test_takes_tensors_mappings_and_boxes_outside_the_slice():
    expected = draw_boxes(WATER, [LESION], [ON_LESION])
    boxes = torch.tensor([ON_LESION])
    found = {"boxes": boxes[:, :4], "scores": boxes[:, 4]}
    assert draw_boxes(WATER, torch.tensor([LESION]), found) == expected
    wild = [[-1e30, -5, 1e30, 5, 0.5], [500, 500, 600, 600, 0.5], [50, 50, 40, 40, 0.5]]
    assert draw_boxes(WATER, [[-50, -50, -40, -40], [-9, 90, 900, 1e9]], wild).width == 240
    assert draw_boxes(np.full((4, 4), np.nan)).getextrema() == ((0, 0),) * 3


def test_save_overlay_writes_what_draw_boxes_draws(tmp_path):
    path = tmp_path / "new" / "a.png"
    save_overlay(path, WATER, [LESION], [ON_LESION], window="lung", title="a")
    with Image.open(path) as saved:
        drawn = draw_boxes(WATER, [LESION], [ON_LESION], window="lung", title="a")
        assert saved.convert("RGB") == drawn
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
    for name in "a", "a.txt":
        with pytest.raises(ValueError, match=r"extension|suffix"):
            save_overlay(tmp_path / name, WATER)
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


def test_save_grid_places_pictures_row_by_row(tmp_path):
    colours = [(10 * i, 0, 255) for i in range(5)]
    pictures = [Image.new("RGB", (30 + i, 20), colour) for i, colour in enumerate(colours)]
    save_grid(tmp_path / "grid.png", pictures, columns=3)
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (3 * 42, 2 * 28)
        for i, colour in enumerate(colours):
            assert grid.getpixel((42 * (i % 3) + 10, 28 * (i // 3) + 10)) == colour
        assert grid.getpixel((2 * 42 + 10, 28 + 10)) == (0, 0, 0)
    with pytest.raises(ValueError, match="pictures"):
        save_grid(tmp_path / "none.png", [])
    with pytest.raises(ValueError, match="columns must be >= 1, got 0"):
        save_grid(tmp_path / "none.png", pictures, columns=0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"hu_slice": np.zeros((3, 4, 5))}, "hu_slice"),
        ({"hu_slice": np.zeros((0, 4))}, "hu_slice"),
        ({"truth": [[1, 2, 3]]}, "truth must have shape"),
        ({"detections": [[1, 2, 3, 4]]}, "detections must have shape"),
        ({"detections": [[1, 2, 3, 4, np.nan]]}, "detections must be finite"),
        ({"window": "liver"}, "window must be one of .* got 'liver'"),
        ({"window": (5, 5)}, "window must be .* low < high"),
        ({"scale": 0}, "scale must be in .* got 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_boxes(**{"hu_slice": WATER} | arguments)


def test_import_leaves_pillow_alone():
    code = (
        "import sys, lesionkit.visualize, lesionkit.evaluation, lesionkit.data.preprocess;"
        "print({'PIL', 'scipy', 'matplotlib', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
