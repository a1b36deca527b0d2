"""The CUDA attention kernels on the emulator, by the contract that all backends share."""

import pytest
import torch

from tests.csrc import emulated
from tests.ops.attention_contract import INF, NAN, SHAPES, inputs, with_gradients
from tests.tolerances import assert_close

TYPES = [torch.float32, torch.float16, torch.bfloat16]
KERNELS = ["contextual", "spatial", "dual"]
# Planes that a warp holds, that a block holds in 2, 4 and 8 vectors a thread, and that it does not;
# whole vectors and tails.
PLANES = [(8, 8), (23, 24), (32, 33), (64, 64), (96, 96), (131, 127), (132, 128)]

pytestmark = pytest.mark.skipif(emulated.COMPILER is None, reason="no g++")


@pytest.fixture(scope="session")
def emulator():
    return emulated.emulator()


@pytest.fixture(params=KERNELS)
def kernel(request, emulator):
    if not hasattr(emulator.library, f"lesionkit_{request.param}_forward"):
        pytest.fail(f"csrc/cuda/{request.param}.cu is missing")
    emulator.seed(5)  # threads and blocks in any order
    yield request.param
    emulator.seed(0)


@pytest.fixture
def contract(emulator, kernel):
    return emulated.attention(emulator, kernel)()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(contract, shape, dtype, ties):
    contract.check(inputs(contract.num_logits, shape, dtype, ties=ties))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("images", range(1, 16))
def test_every_number_of_images(contract, images, dtype):
    contract.check(inputs(contract.num_logits, (2, images, 2, 4, 6), dtype, ties=True))


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sizes_of_planes(contract, plane, dtype):
    contract.check(inputs(contract.num_logits, (1, 1, 1, *plane), dtype))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("logits_dtype", TYPES)
def test_logits_may_have_another_type(contract, dtype, logits_dtype):
    for shape in ((1, 3, 2, 5, 7), (1, 5, 4, 8, 8)):
        contract.check(inputs(contract.num_logits, shape, dtype, logits_dtype, ties=True))


@pytest.mark.parametrize("offset", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_off_alignment(emulator, kernel, dtype, offset):
    contract = emulated.attention(emulator, kernel, offset)()
    for shape in ((1, 3, 2, 8, 8), (2, 5, 1, 17, 31)):
        contract.check(inputs(contract.num_logits, shape, dtype))


@pytest.mark.parametrize("temperature", [1e-30, 0.01, 1.0, 1e30])
def test_extreme_temperatures(contract, temperature):
    tensors = inputs(contract.num_logits, (1, 3, 1, 4, 9), ties=True)
    tensors[1][0, 0, 0, 0, 0] = -INF
    temperatures = [temperature] * contract.num_logits
    oracle = contract.reference(*(tensor.double() for tensor in tensors), *temperatures)
    assert_close(contract.op(*tensors, *temperatures), oracle)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "bad", [[NAN], [INF], [-INF], [INF, -INF], [NAN, INF], [-INF, -INF], [-INF] * 3, [INF, INF]]
)
def test_bad_logits(contract, bad, dtype):
    for which in range(1, contract.num_logits + 1):
        for shape in ((1, 3, 2, 2, 9), (1, 4, 2, 3, 8)):
            tensors = inputs(contract.num_logits, shape, dtype, ties=True)
            for image, value in enumerate(bad):
                tensors[which][0, image, 1, 1, 4] = value
                tensors[which][0, 0, 0, 0, image] = value
            contract.check_bad(tensors)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("plane", [(4, 8), (24, 48), (33, 31)])
def test_a_whole_plane_of_bad_logits(contract, plane, value):
    for which in range(1, contract.num_logits + 1):
        tensors = inputs(contract.num_logits, (1, 3, 1, *plane))
        tensors[which][0, 1] = value
        contract.check_bad(tensors)


def test_bad_features(contract):
    tensors = inputs(contract.num_logits, (1, 3, 2, 4, 8))
    for position, value in enumerate([NAN, INF, -INF]):
        tensors[0][0, position, 0, 1, 3] = value
    contract.check_bad(tensors)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1, 3, 2, 4, 8), (1, 4, 1, 5, 7), (1, 2, 1, 33, 31)])
def test_one_bad_feature_reaches_the_gradients_of_its_whole_group(contract, shape, dtype, value):
    contract.check_one_bad_feature(
        inputs(contract.num_logits, shape, dtype), (0, 1, 0, 1, 3), value
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_are_the_same_in_any_order_of_blocks_and_threads(emulator, contract, dtype):
    shape = (2, 3, 1, 20, 33)
    tensors, runs = inputs(contract.num_logits, shape, dtype, ties=True), []
    for seed in range(20):
        emulator.seed(seed)
        runs.append(with_gradients(contract.op, tensors))
    assert all(torch.equal(a, b) for run in runs for a, b in zip(run, runs[0], strict=True))


@pytest.mark.parametrize("axis", range(5))
def test_nothing_is_launched_for_empty_tensors(emulator, contract, axis):
    shape = [2, 3, 4, 5, 6]
    shape[axis] = 0
    emulator.launches()
    for result in with_gradients(contract.op, inputs(contract.num_logits, shape)):
        assert result.shape == tuple(shape)
    assert emulator.launches() == []


def test_no_access_out_of_bounds():
    """Random calls under the address and undefined sanitizers, which abort at the first fault.

    The last call is told of one more roi than there is memory for, to show that they are at work.
    """
    run = emulated.run_under_sanitizers("tests.csrc.emulated_fuzz", "80")
    assert run.stdout == "80 calls\n", run.stderr[-4000:]
    assert run.returncode != 0
    assert "heap-buffer-overflow" in run.stderr
