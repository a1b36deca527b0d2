"""Everything that measures, run through on the CPU: there in place of a GPU, and as a dry run."""

import pytest
import torch

import lesionkit
from bench.gpu import attention, psroi, timing
from bench.gpu.points import ATTENTION, OPS, planned
from tests.bench.fake_cuda import fake_cuda  # noqa: F401

SMALL = [point for op in OPS for point in planned(op, small=True)]
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a dry run is of the CPU")


def measured(point, compiled=True):
    module = psroi if point.op == "psroi" else attention
    return list(module.rows(point, compiled))


@pytest.mark.parametrize("point", SMALL, ids=lambda point: f"{point.op}-{point.dtype}")
def test_every_measurement_runs_through_on_a_device(point, fake_cuda, monkeypatch):  # noqa: F811
    compiled = []

    def compile_nothing(function, dynamic):
        assert dynamic is False
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile_nothing)
    rows = measured(point)
    assert not [row["error"] for row in rows if "error" in row]
    assert all(row.items() >= point.facts.items() for row in rows)
    ours = [row for row in rows if row["implementation"] == "cpu"]
    assert all(row["fraction_of_copy"] > 0 and row["bytes"] > 0 for row in ours)
    assert all(row["microseconds"] > 0 and row["call_microseconds"] > 0 for row in rows)
    if point.op == "psroi":
        assert [row["direction"] for row in ours] == ["forward", "backward"]
        peers = [row["direction"] for row in rows if row["implementation"] == "torchvision"]
        assert peers == ([] if point.dtype == "bfloat16" else ["forward", "backward"])
    else:
        assert [row["direction"] for row in ours] == ["forward", "backward", "forward + backward"]
        assert len(compiled) == 4  # two forms, anew for each direction
        both = [row for row in rows if row["direction"] == "forward + backward"]
        assert len(both) == 5
        assert all(row["peak_bytes"] == 2000 for row in both)
    copies = 1 if point.op == "psroi" else 3
    assert len(fake_cuda.graphs) == len(rows) + copies
    assert all(graph.replays == 1 + timing.REPEATS for graph in fake_cuda.graphs)


@no_gpu
@pytest.mark.parametrize("point", SMALL[::3], ids=lambda point: point.op)
def test_dry_run_on_the_cpu(point):
    rows = measured(point, compiled=False)
    assert {row["implementation"] for row in rows} > {"cpu"}
    assert all("error" not in row and row["microseconds"] > 0 for row in rows)


def test_backward_rows_call_the_backward_alone(fake_cuda, monkeypatch):  # noqa: F811
    """Ours and the values: what is timed is the gradient of the public op."""
    calls = {}

    def keep(row, call, sets, context=torch.enable_grad, *_, **__):
        with context():
            calls[row["op"], row["implementation"], row["direction"]] = call(*sets[0]), sets[0]
        return row

    monkeypatch.setattr(timing, "measured", keep)
    for point in (planned("dual", small=True)[1], planned("psroi", small=True)[0]):
        assert point.dtype == "float32"
        measured(point, compiled=False)
    gradients, (grad, *leaves) = calls["dual", "cpu", "backward"]
    expected = torch.autograd.grad(lesionkit.dual_attention_reference(*leaves), leaves, grad)
    torch.testing.assert_close(gradients, expected)
    pooled, (features,) = calls["psroi", "torchvision", "forward"]
    gradient, (grad,) = calls["psroi", "torchvision", "backward"]
    leaf = features.clone().requires_grad_()
    torch.manual_seed(0)
    rois = psroi.lesion_boxes(4)
    again = psroi.torchvision.ops.ps_roi_pool(leaf, rois, 7, 16 / 512)
    torch.testing.assert_close(pooled, again.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(again, leaf, grad)[0])
    ours, (grad,) = calls["psroi", "cpu", "backward"]
    again = lesionkit.ps_roi_pool_reference(leaf, rois, 7, 16 / 512)
    torch.testing.assert_close(ours, torch.autograd.grad(again, leaf, grad)[0])


@pytest.mark.parametrize("op", ATTENTION)
def test_one_broken_implementation_does_not_end_the_others(op, fake_cuda, monkeypatch):  # noqa: F811
    def broken(*_):
        raise KeyError("no such kernel\nand more")

    monkeypatch.setattr(lesionkit, f"{op}_attention", broken)
    rows = measured(planned(op, small=True)[0], compiled=False)
    wrong = {(row["implementation"], row["direction"]): row for row in rows if "error" in row}
    assert set(wrong) == {("cpu", "forward"), ("cpu", "forward + backward")}
    assert all("KeyError" in row["error"] and "no such" in row["error"] for row in wrong.values())
    assert len(rows) == 7


def test_autograd_outside_of_the_capture_is_refused(fake_cuda):  # noqa: F811
    leaf = torch.randn(3, requires_grad=True)
    before = leaf * 2
    for y, error in (
        (lambda: leaf * 2, None),
        (lambda: before, "StreamCaptureImplicit"),
        (lambda: before * 2, "StreamCaptureImplicit"),
    ):
        row = timing.measured(
            {}, lambda y=y: torch.autograd.grad(y().sum(), leaf, retain_graph=True), [()]
        )
        assert (error in row["error"]) if error else ("error" not in row)


@pytest.mark.parametrize("sets, calls", [(1, 4), (3, 4), (6, 6)])
def test_a_graph_has_calls_enough_and_takes_its_inputs_in_turn(sets, calls, fake_cuda):  # noqa: F811
    captured = []

    def call(number):
        if fake_cuda.capturing is not None:
            captured.append(number)

    seconds = timing.cold_seconds(call, [(number,) for number in range(sets)])
    assert captured == [number % sets for number in range(calls)]
    assert seconds == pytest.approx(1e-3 / calls)


def test_replays_go_on_until_the_clocks_are_up(fake_cuda, monkeypatch):  # noqa: F811
    monkeypatch.setattr(timing, "WARM_UP", 0.01)
    timing.cold_seconds(lambda: None, [()])
    assert fake_cuda.graphs[0].replays > 1 + timing.REPEATS


def test_a_device_that_died(fake_cuda):  # noqa: F811
    assert timing.alive()
    fake_cuda.broken = True
    assert not timing.alive()


def test_sets_of_inputs_together_pass_the_cache(fake_cuda, monkeypatch):  # noqa: F811
    class Properties:
        L2_cache_size = 50 << 20

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    for megabytes in (1, 4, 10, 100, 1000):
        sets = timing.num_sets(megabytes << 20)
        assert 2 <= sets <= 64
        assert sets * megabytes >= min(200, 64 * megabytes)
