"""The cases for compute-sanitizer reach every kernel of the launch tables."""

from importlib import import_module

import pytest
import torch
from lesionkit.kernels.common.nvrtc import TYPES, UNROLLED_IMAGES

from bench.gpu import direct, sanitize

FLOATS = {dtype: name for dtype, name in TYPES.items() if dtype != torch.float64}


@pytest.fixture(scope="module")
def launched():
    """Names of the CUDA kernels, with their template arguments, that the cases launch."""
    names = set()
    for case in sanitize.attention_cases():
        module = import_module(f"lesionkit.kernels.{case.op}.nvrtc")
        x, logits = (
            sanitize.tensor(case.shape, dtype, "cpu", case.offset)
            for dtype in (case.dtype, case.logits_dtype)
        )
        many = [logits] * (2 if case.op == "dual" else 1)
        temperatures = direct.TEMPERATURES[case.op]
        forward = module.forward_launch(x, *many, x, *temperatures)
        backward = module.backward_launch(x, x, *many, x, *many, *temperatures)
        names |= {f"{case.op} {forward.name}", f"{case.op} {backward.name}"}
    psroi = import_module("lesionkit.kernels.psroi.nvrtc")
    for (size, bins, count), dtype, rois_dtype, convention in sanitize.pooling_cases():
        features, rois = torch.empty(size, dtype=dtype), torch.empty(count, 5, dtype=rois_dtype)
        pooled = torch.empty(count, size[1] // bins**2, bins, bins, dtype=dtype)
        forward = psroi.forward_launch(features, rois, pooled, 1 / 8, convention)
        backward = psroi.backward_launch(pooled, rois, features, 1 / 8, convention)
        names |= {f"psroi {launch.name}" for launch in (forward, backward)}
        names.add(f"outputs of a thread: {int(forward.arguments[-1])}")
    return names


def lanes(*dtypes):
    return 16 // max(dtype.itemsize for dtype in dtypes)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_kernel_of_one_type(launched, dtype, direction):
    name, n = TYPES[dtype], lanes(dtype)
    expected = {f"contextual {direction}<{name}, {name}, {n}, {m}>" for m in UNROLLED_IMAGES}
    expected |= {f"contextual {direction}_any<{name}, {name}, {each}>" for each in (n, 1)}
    expected |= {f"dual {direction}<{name}, {name}, {n}, {m}>" for m in (0, *UNROLLED_IMAGES)}
    expected |= {f"dual {direction}<{name}, {name}, 1, 0>"}
    expected |= {f"spatial {direction}_any<{name}, {name}, {each}>" for each in (n, 1)}
    plans = [(1, "true"), (2, "true"), (4, "true"), (4, "false")]
    if dtype == torch.float32:
        plans.append((8, "false"))
    expected |= {
        f"spatial {direction}<{name}, {n}, {each}, {edges}, {warp}>"
        for each, warp in plans
        for edges in ("true", "false")
    }
    expected |= {f"psroi {direction}<{name}, {rois}>" for rois in ("float", "double")}
    assert expected <= launched


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("types", sanitize.MIXED, ids=str)
def test_every_kernel_of_mixed_types(launched, types, direction):
    names, n = ", ".join(TYPES[dtype] for dtype in types), lanes(*types)
    assert {f"contextual {direction}_any<{names}, {each}>" for each in (n, 1)} <= launched
    assert f"spatial {direction}_any<{names}, {n}>" in launched
    assert {f"dual {direction}<{names}, {each}, 0>" for each in (n, 1)} <= launched


def test_psroi_with_1_2_and_4_outputs_of_a_thread(launched):
    assert {f"outputs of a thread: {number}" for number in (1, 2, 4)} <= launched


def test_every_triton_kernel():
    """Unrolled and looped, by the conditions that its own launch functions state."""
    contextual, dual, spatial = (
        import_module(f"lesionkit.kernels.{name}.triton")
        for name in ("contextual", "dual", "spatial")
    )
    for dtype in FLOATS:
        cases = [c for c in sanitize.attention_cases() if c.dtype == c.logits_dtype == dtype]
        images = {c.shape[1] for c in cases if c.op == "contextual"}
        assert min(images) <= contextual.MOST_UNROLLED < max(images)
        planes = [c.shape[3] * c.shape[4] for c in cases if c.op == "spatial"]
        assert {spatial.launch_of(2, cells, False)[0] for cells in planes} == {True, False}
        for direction in ("forward", "backward"):
            looped = {
                dual.tile_of(direction, c.shape[1], c.shape[3] * c.shape[4], *2 * [dtype.itemsize])
                [0] for c in cases if c.op == "dual" and c.shape[1] <= dual.MOST_UNROLLED
            }  # fmt: skip
            assert looped == {True, False}


def test_the_cases_run(monkeypatch, capsys):
    sanitize.main("cpu", device="cpu")
    sanitize.main("cpu", "core", device="cpu")
    assert capsys.readouterr().out == 2 * "cpu: every kernel ran\n"
