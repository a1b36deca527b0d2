"""Grids and tiles of the Triton kernels as plain numbers, and what a launch refuses."""

import itertools
import math

import pytest
import torch

pytest.importorskip("triton")

from lesionkit.kernels.common import triton as common
from lesionkit.kernels.contextual import triton as contextual
from lesionkit.kernels.dual import triton as dual
from lesionkit.kernels.psroi import triton as psroi
from lesionkit.kernels.spatial import triton as spatial

import lesionkit.ops  # noqa: F401  registers the ops

COUNTS = [1, 2, 65535, 65536, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2**17]
LIMITS = (2**31 - 1, 65535, 65535)


def within_limits(grid):
    return all(1 <= size <= limit for size, limit in zip(grid, LIMITS, strict=False))


@pytest.mark.parametrize("count", COUNTS)
def test_folded_grids_hold_every_program_and_few_more(count):
    for fold, limit in ((common.fold_xy, 2**31 - 1), (common.fold_yz, 65535)):
        sizes = fold(count)
        assert sizes[0] <= limit
        assert sizes[1] <= 65535
        assert count <= math.prod(sizes) < count + sizes[0]
        # The kernels number a program first + second * sizes[0]: the last of all is there.
        assert (count - 1) // sizes[0] < sizes[1]


@pytest.mark.parametrize("samples", [1, 65535, 65536, 2**31])
@pytest.mark.parametrize("columns", COUNTS)
def test_contextual_grid(samples, columns):
    for block in (512, 1024):
        grid = contextual.grid_of(samples, columns, block)
        assert within_limits(grid)
        assert (grid[0] - 1) * block < columns <= grid[0] * block
        assert grid[1] * grid[2] >= samples


def test_contextual_tiles_are_vectors_of_128_bits():
    threads = 32 * contextual.OPTIONS["num_warps"]
    for direction, size, images in itertools.product(("forward", "backward"), (2, 4), range(1, 20)):
        elements = contextual.block_of(direction, size, size, images) / threads
        narrow = direction == "backward" and size == 2 and 9 < images < 16
        assert elements * size == (8 if narrow else 16)


@pytest.mark.parametrize("planes", COUNTS)
@pytest.mark.parametrize("cells", [1, 49, 512, 513, 4096, 8192, 8193, 16384, 16385, 2**31, 2**33])
def test_spatial_launch(planes, cells):
    for mixed in (False, True):
        looped, grid, options = spatial.launch_of(planes, cells, mixed)
        assert within_limits(grid)
        assert 1 <= options["num_warps"] <= 32
        programs = math.prod(grid)
        if looped:
            assert cells > 8192
            assert programs >= planes
            assert options["tiles"] * options["BLOCK"] >= cells
        else:
            assert programs * options["ROWS"] >= planes
            assert options["BLOCK"] >= cells
            cells_a_warp = 1024 if cells > 8192 else 512
            assert options["ROWS"] * options["BLOCK"] == cells_a_warp * options["num_warps"]
            assert options.get("maxnreg", 64) * 32 * options["num_warps"] <= 65536


@pytest.mark.parametrize("cells", [1, 49, 1024, 4096, 2**31 - 1, 2**31, 2**33])
@pytest.mark.parametrize("images", range(1, dual.MOST_UNROLLED + 1))
def test_dual_tiles(images, cells):
    for direction in ("forward", "backward"):
        for x_bytes, logits_bytes in ((2, 2), (2, 4), (4, 2), (4, 4)):
            looped, tile = dual.tile_of(direction, images, cells, x_bytes, logits_bytes)
            assert 1 <= tile["num_warps"] <= 32
            if looped:
                assert tile["tiles"] * tile["BLOCK"] >= cells
                assert tile["plane_tiles"] * tile["PLANE_BLOCK"] >= cells
                assert tile["tiles"] < 2**31
            else:
                assert tile["BLOCK"] >= cells
    assert within_limits(dual.grid_of(2**31, 2**31 - 1))


@pytest.mark.parametrize("channels", [1, 490, 4410, 2**24, 2**31 - 1])
def test_psroi_grids(channels):
    grid = psroi.forward_grid(2**31 - 1, channels)
    assert within_limits(grid)
    assert grid[1] * grid[2] * psroi.FORWARD_BLOCK >= channels
    for cells in (1, 4096, 2**33):
        tile_channels, tile_cells = psroi.backward_tile(channels, cells)
        assert tile_channels * tile_cells <= psroi.TILE


def test_psroi_refuses_what_32_bits_cannot_count():
    most = 2**31 - 1 - psroi.ROI_BLOCK
    for rois, channels in ((most, 2**31 - 1), (most + 1, 1), (1, 2**31)):
        arguments = (torch.empty(rois, 5, device="meta"), channels, 1, "rfcn")
        if (rois, channels) == (most, 2**31 - 1):
            psroi.check_arguments(*arguments)
        else:
            with pytest.raises(ValueError, match=f"must be at most.*got {channels} and {rois}"):
                psroi.check_arguments(*arguments)


def test_numbers_stay_finite_and_normal():
    for temperature in (5e-324, 1e-40, 1.0, 2.0, 1e40, 1.7e308):
        scale = torch.tensor(common.exp2_scale(temperature))
        assert torch.finfo(torch.float32).tiny <= scale < torch.inf
        assert torch.tensor(common.inverse(temperature)).isfinite()
    assert common.exp2_scale(2.0) == pytest.approx(math.log2(math.e) / 2)


OPS = torch.ops.lesionkit_triton
X = torch.zeros(1, 3, 2, 4, 4)


@pytest.mark.skipif(common.INTERPRETED, reason="Triton's interpreter is on")
@pytest.mark.parametrize(
    "op, arguments",
    [
        ("contextual_attention", (X, X, 2.0)),
        ("contextual_attention_backward", (X, X, X, 2.0)),
        ("spatial_attention", (X, X, 2.0)),
        ("spatial_attention_backward", (X, X, X, 2.0)),
        ("dual_attention", (X, X, X, 2.0, 2.0)),
        ("dual_attention_backward", (X, X, X, X, 2.0, 2.0)),
        ("ps_roi_pool", (X[0], torch.zeros(1, 5), 1, 0.5, "rfcn")),
        ("ps_roi_pool_backward", (X[0, :, :, :1, :1], torch.zeros(3, 5), 1, 5, 6, 0.5, "rfcn")),
    ],
)
def test_cpu_tensors_need_the_interpreter(op, arguments):
    with pytest.raises(RuntimeError, match=r"run on CUDA tensors, got cpu; .*TRITON_INTERPRET=1"):
        getattr(OPS, op)(*arguments)


@pytest.mark.parametrize("module", [contextual, spatial])
def test_other_shapes_are_refused(module, monkeypatch):
    monkeypatch.setattr(common, "INTERPRETED", True)
    with pytest.raises(ValueError, match=r"must have x's shape \(1, 3, 2, 4, 4\), got \(1, 3, 2"):
        module.forward(X, X[..., :2], 2.0)
