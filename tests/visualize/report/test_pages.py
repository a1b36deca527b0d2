"""What the pages of scans and data sets say."""

import numpy as np
import pytest

from lesionkit.data.deeplesion import KeySlice, Lesion
from lesionkit.evaluation import DetectionStatus, match_detections
from lesionkit.visualize.report.dataset import match_image
from lesionkit.visualize.report.scan import choose_slices, edge_letters

pytest.importorskip("matplotlib")


@pytest.mark.parametrize(
    "direction, letters",
    [
        (np.diag([1.0, 1.0, 1.0]), "RALP"),
        (np.diag([1.0, 1.0, -1.0]), "RALP"),
        (np.diag([-1.0, -1.0, 1.0]), "LPRA"),  # prone
        (np.array([[1.0, 0, 0], [0, 0, -1], [0, -1, 0]]), "RHLF"),  # coronal
        (np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]), "RALP"),  # turned by 37 degrees
    ],
)
def test_edges_name_the_patients_sides(direction, letters):
    assert "".join(edge_letters(direction)) == letters


def test_slices_with_the_best_boxes_are_kept():
    boxes = {3: [], 50: [], 51: [], 90: []}
    assert choose_slices(5, [], {}, 5) == [0, 1, 2, 3, 4]
    assert choose_slices(100, [50, 3], boxes, 1) == [50]
    assert choose_slices(100, [50, 3], boxes, 2) == [3, 50]
    chosen = choose_slices(100, [50, 3], boxes, 10)
    assert {*boxes} <= {*chosen}
    assert len(chosen) == 10
    assert chosen == sorted(chosen)
    assert choose_slices(1500, [], {}, 3) == [0, 750, 1499]


def record(*boxes):
    lesions = tuple(
        Lesion(
            *(0, "000001_01_01_005.png", 1, 1, 1, 5, box, (0.0,) * 8, (9.0, 9.0), (0.5,) * 3, 5),
            *(False, (1, 9), (0.5, 0.5, 2.0), (64, 64), (-175.0, 275.0), "F", 50.0, 3),
        )
        for box in boxes
    )
    first = lesions[0]
    return KeySlice(first.file_name, 1, first.folder, 5, first.spacing, (1, 9), (64, 64), lesions)


def test_boxes_of_an_image_are_told_apart_as_froc_does():
    generator = np.random.default_rng(3)
    for _ in range(20):
        corners = generator.uniform(0, 40, (12, 2))
        found = np.hstack([corners, corners + generator.uniform(8, 20, (12, 2))])
        image = record(*map(tuple, found[:2].tolist()), (50.0, 50.0, 60.0, 60.0))
        found = np.hstack([found + generator.normal(0, 2, found.shape), generator.random((12, 1))])
        boxes, rows = match_image(image, found, 0.5)
        (status,) = match_detections([found], [image.boxes])
        expected = np.where(status == DetectionStatus.FALSE_POSITIVE, "false", "hit")
        assert [box.kind for box in boxes] == ["truth"] * 3 + expected.tolist()
        assert [box.score for box in boxes[3:]] == found[:, 4].tolist()
        assert rows[2] == (("missed", "", "lung", "6 x 6"), "truth", 2)
        false = [row for row in rows if row[1] == "false"]
        assert len(rows) == 3 + len(false) == 3 + (expected == "false").sum()
        scores = [boxes[place].score for _, _, place in false]
        assert scores == sorted(scores, reverse=True)


def test_image_without_detections():
    boxes, rows = match_image(record((1.0, 1.0, 9.0, 9.0)), np.empty((0, 5)), 0.5)
    assert [box.kind for box in boxes] == ["truth"]
    assert [row[1] for row in rows] == ["truth"]
