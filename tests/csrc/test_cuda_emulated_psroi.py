"""PSROI's CUDA kernels on the emulator against the reference."""

import ctypes

import pytest
import torch

import lesionkit
from tests.csrc import emulated
from tests.csrc.emulated_psroi import ps_roi_pool
from tests.ops.attention_contract import with_gradients
from tests.ops.test_psroi import random_rois
from tests.tolerances import assert_close

TYPES = [torch.float32, torch.float16, torch.bfloat16]
BAD = [torch.nan, torch.inf, -torch.inf, 3.4e38, -3.4e38, 1e30, 2147483647, -0.0, 0.49999997, 1e-45]

pytestmark = pytest.mark.skipif(emulated.COMPILER is None, reason="no g++")


@pytest.fixture(params=[0, 7], ids=["in order", "shuffled"])
def emulator(request):
    torch.manual_seed(0)
    emulator = emulated.emulator()
    emulator.seed(request.param)
    yield emulator
    emulator.seed(0)


def pointers(*tensors):
    return [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]


def hostile_rois(count, batch, size):
    """Some numbers of random rois replaced by such as may break a cast or a bound."""
    rois = random_rois(count, batch, size)
    bad = torch.tensor(BAD)[torch.randint(len(BAD), rois.shape)]
    return torch.where(torch.rand(rois.shape) < 0.1, bad, rois)


def assert_agrees(emulator, features, *arguments, offset=0, oracle=lesionkit.ps_roi_pool):
    """With the reference, or with the CPU's kernels, which are as exact in float64 but no loops."""
    pool = ps_roi_pool(emulator, offset)
    actual = with_gradients(lambda leaf: pool(leaf, *arguments), [features])
    expected = with_gradients(lambda leaf: oracle(leaf, *arguments), [features.double()])
    for result, exact in zip(actual, expected, strict=True):
        assert result.dtype == features.dtype
        assert_close(result, exact)


@pytest.mark.parametrize("convention", ["rfcn", "torchvision"])
@pytest.mark.parametrize("rois_type", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("offset", [0, 1])
def test_types(emulator, dtype, rois_type, convention, offset):
    features = torch.randn(2, 3 * 9, 12, 10).to(dtype)
    rois = hostile_rois(30, 2, 90).to(rois_type)
    reference = lesionkit.ps_roi_pool_reference
    assert_agrees(emulator, features, rois, 3, 1 / 8, convention, offset=offset, oracle=reference)


# One cell; a strip of 64 cells exactly, less, more; rows longer than a strip; many rows in one.
@pytest.mark.parametrize(
    "height, width", [(1, 1), (8, 8), (9, 7), (13, 5), (3, 200), (130, 1), (17, 64), (29, 23)]
)
@pytest.mark.parametrize("batch, channels, bins", [(1, 1, 1), (3, 1, 2), (1, 5, 7), (2, 33, 1)])
def test_shapes(emulator, batch, channels, bins, height, width):
    features = torch.randn(batch, channels * bins**2, height, width)
    rois = random_rois(9, batch, 4 * max(height, width))
    rois[0] = torch.tensor([0.0, -9, -9, 4 * width + 9, 4 * height + 9])
    assert_agrees(emulator, features, rois, bins, 1 / 4)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "width, offset, widest", [(10, 0, 16), (11, 0, 4), (10, 2, 4), (10, 1, 2), (9, 0, 2)]
)
def test_backward_stores_are_as_wide_as_they_are_aligned(emulator, dtype, width, offset, widest):
    height = 7 if width == 9 else 6 if width == 11 else 8
    features = torch.randn(2, 11 * 9, height, width).to(dtype).requires_grad_()
    pooled = ps_roi_pool(emulator, offset)(features, random_rois(5, 2, 80), 3)
    emulator.stores()
    pooled.backward(torch.ones_like(pooled))
    size = max(widest, dtype.itemsize)
    assert emulator.stores() == {size: features.nbytes // size}


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 300])
def test_numbers_of_rois(emulator, count):
    assert_agrees(emulator, torch.randn(3, 2 * 4, 9, 11), random_rois(count, 3, 80), 2)


@pytest.mark.parametrize(
    "batch, channels, height, width, count", [(0, 1, 4, 4, 2), (1, 0, 4, 4, 2), (1, 1, 0, 4, 2)]
)
def test_empty(emulator, batch, channels, height, width, count):
    assert_agrees(
        emulator, torch.randn(batch, channels * 4, height, width), torch.rand(count, 5), 2
    )


def test_a_large_map(emulator):
    """200,000 cells, of which one roi covers all and others a few."""
    rois = random_rois(20, 1, 500)
    rois[3] = torch.tensor([0.0, -9, -9, 900, 900])
    assert_agrees(emulator, torch.randn(1, 2, 500, 400), rois, 1, 1.0)


def test_many_bins(emulator):
    assert_agrees(emulator, torch.randn(1, 40 * 40, 3, 5), random_rois(3, 1, 5), 40, 1.0)


def test_many_outputs_of_many_rois(emulator):
    """Enough for the largest number of outputs per thread; compared with the CPU's results."""
    features, rois = torch.randn(2, 10 * 49, 5, 6).requires_grad_(), random_rois(1100, 2, 50)
    pooled = ps_roi_pool(emulator)(features, rois)
    assert emulator.launches()[-1][-1] == "04000000"
    assert_close(pooled, lesionkit.ps_roi_pool(features, rois).double())


def test_bins_of_a_thousand_boxes_are_the_cpus():
    """Features that tell the cell: a bin of other cells has another mean."""
    emulator = emulated.emulator()
    features = (torch.rand(1, 49, 24, 31) * 2**20).round()
    for scale in (1 / 8, 0.1, 1 / 3):
        rois = random_rois(300, 1, 31 / scale).round()
        pooled = ps_roi_pool(emulator)(features, rois, 7, scale)
        expected = lesionkit.ps_roi_pool(features, rois, 7, scale)
        torch.testing.assert_close(pooled, expected, rtol=1e-6, atol=0)


def test_bad_features_stay_in_their_bins(emulator):
    features = torch.randn(1, 8, 6, 9)
    features[0, 3, 2, 3], features[0, 5, 0, 5] = torch.nan, torch.inf
    rois = random_rois(30, 1, 60)
    pooled = ps_roi_pool(emulator)(features, rois, 2)
    assert_close(pooled, lesionkit.ps_roi_pool_reference(features.double(), rois, 2))


def test_grids_smaller_than_the_work(tmp_path):
    """As the launchers start them beyond 65,535 samples, rows of tasks or chunks."""
    library = tmp_path / "small_grids.so"
    sources = [emulated.EMULATOR / "small_grids.cu", emulated.EMULATOR / "control.cpp"]
    emulated.compile_library(library, sources=sources)
    emulator = emulated.Emulator(library)
    features, rois = torch.randn(3, 11 * 9, 13, 12).requires_grad_(), random_rois(40, 3, 100)
    expected = lesionkit.ps_roi_pool(features, rois, 3)
    grad = torch.randn_like(expected)
    expected.backward(grad)
    pooled, result = torch.full_like(expected, torch.nan), torch.full_like(features, torch.nan)
    sizes = [ctypes.c_int64(size) for size in (40, 3, 11 * 9)], (3, 13, 12, 2, 1)
    for seed in range(4):
        emulator.seed(seed)
        emulator.call("small_forward", *pointers(features, rois, pooled), *sizes[0], *sizes[1])
        channels = ctypes.c_int64(11)
        arguments = *sizes[0][:2], channels, *sizes[1]
        emulator.call("small_backward", *pointers(grad, rois, result), *arguments)
        assert_close(pooled, expected.double())
        assert_close(result, features.grad.double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_the_same_in_any_order_of_blocks_and_threads(dtype):
    emulator = emulated.emulator()
    torch.manual_seed(0)
    features = torch.randn(2, 2 * 9, 15, 14).to(dtype)
    rois = random_rois(150, 2, 110)
    pool = ps_roi_pool(emulator)
    runs = []
    for seed in range(20):
        emulator.seed(seed)
        runs.append(with_gradients(lambda leaf: pool(leaf, rois, 3), [features]))
    emulator.seed(0)
    assert all(torch.equal(a, b) for run in runs for a, b in zip(run, runs[0], strict=True))


@pytest.mark.parametrize("geometry", [
    (-1, 1, 1, 7, 4, 4), (1, -1, 1, 7, 4, 4), (1, 1, -1, 7, 4, 4), (1, 1, 1, 0, 4, 4),
    (1, 1, 1, 32769, 4, 4), (1, 1, 1, 7, -1, 4), (1, 1, 1, 7, 4, 2**30 + 1),
    (1, 1, 1, 7, 2**30, 2**30),
])  # fmt: skip
def test_impossible_sizes_are_refused(geometry):
    backward = emulated.emulator().library.lesionkit_psroi_backward
    assert backward(None, None, None, 0, 0, *geometry, 1.0, 0, None) == 1


@pytest.mark.parametrize("types, convention", [((3, 0), 0), ((0, 1), 0), ((0, 0), 2), ((9, 0), 0)])
def test_unknown_types_are_refused(types, convention):
    forward = emulated.emulator().library.lesionkit_psroi_forward
    assert forward(None, None, None, *types, 1, 1, 1, 1, 1, 1, 1.0, convention, None) == 1
