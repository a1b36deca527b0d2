"""The emulator finds the faults that it is there for."""

import ctypes

import pytest
import torch

from tests.csrc import emulated

pytestmark = pytest.mark.skipif(emulated.COMPILER is None, reason="no g++")


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    sources = [emulated.EMULATOR / "faults.cu", emulated.EMULATOR / "control.cpp"]
    emulated.compile_library(library, sources=sources)
    return emulated.Emulator(library)


def run(faults, kernel, seed=0):
    numbers = torch.arange(64.0)
    faults.seed(seed)
    error = getattr(faults.library, f"lesionkit_{kernel}")(
        ctypes.c_void_p(numbers.data_ptr()), None
    )
    return error, faults.library.emulator_problem().decode(), numbers


@pytest.mark.parametrize("seed", range(5))
def test_a_barrier_orders_all_threads(faults, seed):
    error, problem, numbers = run(faults, "with_barrier", seed)
    assert (error, problem) == (0, "")
    assert torch.equal(numbers, torch.arange(64.0).roll(-2))  # two blocks, one after another


@pytest.mark.parametrize("seed", [0, 1])
def test_a_missing_barrier_reads_poison(faults, seed):
    error, _, numbers = run(faults, "no_barrier", seed)
    assert error == 0
    assert numbers.isnan().any()


def turned(numbers):
    return numbers.view(-1, 32).roll(-2, 1).flatten()  # two blocks, one after another


@pytest.mark.parametrize("seed", range(5))
def test_a_warp_barrier_orders_its_lanes(faults, seed):
    error, problem, numbers = run(faults, "with_warp_barriers", seed)
    assert (error, problem) == (0, "")
    assert torch.equal(numbers, turned(torch.arange(64.0)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kernel", ["read_too_early", "written_too_early"])
def test_a_missing_warp_barrier_gives_other_numbers(faults, kernel, seed):
    error, _, numbers = run(faults, kernel, seed)
    assert error == 0
    assert not torch.equal(numbers, turned(torch.arange(64.0)))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kernel", ["one_exits", "two_barriers", "half_a_warp"])
def test_a_divergent_barrier_ends_the_launch(faults, kernel, seed):
    error, problem, _ = run(faults, kernel, seed)
    assert error == 719
    assert "divergent barrier: thread" in problem
    assert "faults.cu:" in problem


@pytest.mark.parametrize("kernel", ["not_initialised", "not_initialised_dynamic"])
def test_shared_memory_is_poisoned_before_each_block(faults, kernel):
    error, _, numbers = run(faults, kernel)
    assert error == 0
    assert numbers.isnan().all()


def test_impossible_launches_are_refused(faults):
    assert run(faults, "too_many_threads")[:2] == (9, "impossible launch configuration")
