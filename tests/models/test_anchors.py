import torch

from lesionkit.models.anchors import base_anchors, grid_anchors

# (width, height) of 3DCE's anchors, ratio slowest: Faster R-CNN's generator on a base of 8.
SIZES_3DCE = [
    (22, 12), (33, 18), (44, 24), (66, 36), (132, 72),
    (16, 16), (24, 24), (32, 32), (48, 48), (96, 96),
    (12, 24), (18, 36), (24, 48), (36, 72), (72, 144),
]  # fmt: skip


def test_sizes_of_3dce():
    anchors = base_anchors(8, (0.5, 1.0, 2.0), (2.0, 3.0, 4.0, 6.0, 12.0))
    assert torch.equal(anchors[:, 2:] - anchors[:, :2], torch.tensor(SIZES_3DCE).float())


def test_centres_of_3dce():
    anchors = base_anchors(8, (0.5, 1.0, 2.0), (2.0, 3.0, 4.0, 6.0, 12.0))
    # Inclusive ends are one less than half-open ones, so the inclusive centre is (3.5, 3.5).
    centre = (anchors[:, :2] + anchors[:, 2:] - 1) / 2
    assert torch.equal(centre, torch.full((15, 2), 3.5))


def test_inclusive_16_square_of_3dce():
    (anchor,) = base_anchors(8, (1.0,), (2.0,))
    assert anchor.tolist() == [-4, -4, 12, 12]  # inclusive: [-4, -4, 11, 11]


def test_grid_order():
    base = torch.tensor([[0.0, 0, 2, 2], [-1, -1, 3, 3]])
    anchors = grid_anchors(base, rows=2, columns=3, stride=4)
    assert anchors.shape == (12, 4)
    grid = anchors.view(2, 3, 2, 4)
    assert grid[1, 2, 0].tolist() == [8, 4, 10, 6]
    assert grid[0, 2, 1].tolist() == [7, -1, 11, 3]


def test_empty_grid():
    assert grid_anchors(torch.zeros(5, 4), rows=0, columns=3, stride=4).shape == (0, 4)
