"""Engine without a GPU: what it does around a TensorRT runtime; see tests/gpu for the rest."""

import pytest
import torch

from lesionkit.deploy.engine import Engine
from lesionkit.deploy.plan import write_description
from lesionkit.errors import InputError

from . import fake_tensorrt as fake

SHAPE = (3, 3, 8, 6)


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "detector.plan"
    path.write_bytes(b"a plan")
    return path


def start(monkeypatch, plan, current=0, **options):
    trt = fake.runtime(**options.pop("runtime", {}))
    fake.use(monkeypatch, trt, current)
    return Engine(plan, **options), trt


def images(batch=2, **options):
    return torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(batch), **options)


def assert_right(outputs, given):
    batch = len(given)
    assert {name: (tuple(t.shape), t.dtype) for name, t in outputs.items()} == {
        "boxes": ((batch, fake.ROWS, 4), torch.float32),
        "scores": ((batch, fake.ROWS), torch.float32),
        "count": ((batch,), torch.int32),
    }
    sums = given.float().flatten(1).sum(1)
    torch.testing.assert_close(outputs["boxes"][:, 1, 2], sums)
    assert outputs["count"].tolist() == [1, 2, 3][:batch]


def test_runs_on_tensors(monkeypatch, plan):
    engine, _ = start(monkeypatch, plan)
    assert (engine.batch, engine.input_shape, engine.dtype) == ((1, 3), SHAPE, torch.float32)
    first, second = images(2), images(3)
    outputs = engine(first)
    assert_right(engine(second), second)
    assert_right(outputs, first)  # the later run has its own
    turned = images(2).transpose(3, 4).contiguous().transpose(3, 4)
    assert not turned.is_contiguous()
    assert_right(engine(turned), images(2))
    assert_right(engine(images(2).requires_grad_()), images(2))


def test_images_at_any_address(monkeypatch, plan):
    """TensorRT takes those at multiples of 256 alone."""
    for half in (False, True):
        engine, _ = start(monkeypatch, plan, runtime={"half": half})
        given = images(2, dtype=engine.dtype)
        moved = torch.empty(given.numel() + 1, dtype=engine.dtype)[1:].view(given.shape)
        moved.copy_(given)
        assert moved.data_ptr() % 64 != 0
        assert_right(engine(moved), given)


def test_half_precision(monkeypatch, plan):
    engine, _ = start(monkeypatch, plan, runtime={"half": True})
    assert engine.dtype == torch.float16
    assert_right(engine(images().half()), images().half())
    with pytest.raises(TypeError, match=r"images must be torch\.float16, got torch\.float32"):
        engine(images())


def test_detections(monkeypatch, plan):
    engine, _ = start(monkeypatch, plan)
    found = engine.detect(images(3))
    assert [len(d["boxes"]) for d in found] == [1, 2, 3]
    assert [len(d["scores"]) for d in found] == [1, 2, 3]
    broken = images(3)
    broken[1, 0, 0, 0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="sample 1"):
        engine.detect(broken)


@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize(
    "given,error,words",
    [
        ([1.0], TypeError, "images must be a tensor, got list"),
        (torch.zeros(2, *SHAPE, dtype=torch.float64), TypeError, "torch.float64"),
        (torch.zeros(2, *SHAPE, device="meta"), ValueError, "on cpu, got meta"),
        (torch.zeros(4, *SHAPE), ValueError, "B from 1 to 3, got [4, 3, 3, 8, 6]"),
        (torch.zeros(0, *SHAPE), ValueError, "B from 1 to 3"),
        (torch.zeros(2, 3, 3, 6, 8), ValueError, "[B, 3, 3, 8, 6]"),
        (torch.zeros(3, 3, 8, 6), ValueError, "got [3, 3, 8, 6]"),
    ],
)
def test_wrong_images(monkeypatch, plan, given, error, words, cuda_graph):
    engine, trt = start(monkeypatch, plan, cuda_graph=cuda_graph)
    with pytest.raises(error) as caught:
        engine(given)
    assert words in str(caught.value)
    assert trt.events == []


def test_order_on_a_stream(monkeypatch, plan):
    engine, trt = start(monkeypatch, plan, current=77)
    engine(images())
    assert trt.events == [("wait for event", 77), ("launch", 77), ("ran", 77)]


def test_order_on_the_default_stream(monkeypatch, plan):
    """TensorRT would wait for the whole device there, so the launch has a stream of its own."""
    engine, trt = start(monkeypatch, plan)
    engine(images())
    launches = [event for event in trt.events if event[0] == "launch"]
    ((_, side),) = launches
    assert side != 0
    assert trt.events == [
        ("wait for event", 0),
        ("wait", side, 0),
        ("launch", side),
        ("wait", 0, side),
        ("ran", 0),
    ]


def test_graphs(monkeypatch, plan):
    engine, trt = start(monkeypatch, plan, current=77, cuda_graph=True)
    first, other, last = images(2), images(2) + 1, images(3)
    outputs = engine(first.clone().requires_grad_())
    assert not any(output.requires_grad for output in outputs.values())
    assert_right(outputs, first)
    launched = [event for event in trt.events if event[0] == "launch"]
    assert len(launched) == 2  # a run before the recorded one
    assert 77 not in launched[0]
    assert_right(engine(other), other)
    assert_right(engine(last), last)
    assert_right(engine(first), first)
    assert_right(outputs, first)
    assert len([event for event in trt.events if event[0] == "launch"]) == 4
    assert len(trt.engine.contexts) == 3  # one for each recorded size


def test_graphs_of_the_runtime_itself(monkeypatch, plan):
    trt = fake.runtime("tensorrt_rtx")
    trt.CudaGraphStrategy = type("CudaGraphStrategy", (), {"WHOLE_GRAPH_CAPTURE": "whole"})
    fake.use(monkeypatch, trt)
    engine = Engine(plan, cuda_graph=True)
    assert_right(engine(images()), images())
    (context,) = trt.engine.contexts
    assert context.config.cuda_graph_strategy == "whole"


def test_graph_that_cannot_be_recorded(monkeypatch, plan):
    engine, trt = start(monkeypatch, plan, cuda_graph=True)
    trt.refuses = "recording"
    with pytest.raises(RuntimeError, match=r"stream is capturing.*cuda_graph=False"):
        engine(images())


@pytest.mark.parametrize("step", ["set_input_shape", "execute_async_v3"])
def test_failure_of_tensorrt(monkeypatch, plan, step):
    engine, trt = start(monkeypatch, plan)
    trt.refuses = step
    reason = "no memory left" if step == "execute_async_v3" else "gives no reason"
    with pytest.raises(RuntimeError, match=f"tensorrt: {step}: .*{reason}"):
        engine(images())


def test_not_in_the_graph_of_another(monkeypatch, plan):
    engine, trt = start(monkeypatch, plan)
    trt.refuses = "capture"
    with pytest.raises(RuntimeError, match="use cuda_graph=True"):
        engine(images())


def test_plan_that_is_no_detector(monkeypatch, plan):
    words = r"detector\.plan: .*inputs images \(FLOAT\) and the outputs boxes \(FLOAT\), scores"
    with pytest.raises(InputError, match=words):
        start(monkeypatch, plan, runtime={"tensors": ("images", "boxes", "scores")})
    with pytest.raises(InputError, match="has the inputs  and the outputs boxes"):
        start(monkeypatch, plan, runtime={"tensors": ("boxes", "scores", "count")})


def test_plan_with_numbers_that_torch_has_not(monkeypatch, plan):
    with pytest.raises(InputError, match=r"scores \(FP8\), count \(INT32\), not those of a det"):
        start(monkeypatch, plan, runtime={"scores": "FP8"})


def test_description_beside_the_plan(monkeypatch, plan):
    write_description(plan, {"runtime": "tensorrt_rtx", "detector": {"preset": "tiny"}})
    asked = []
    trt = fake.runtime()
    fake.use(monkeypatch, trt)
    monkeypatch.setattr("lesionkit.deploy.engine.load_runtime", lambda n: asked.append(n) or trt)
    assert Engine(plan).metadata["detector"] == {"preset": "tiny"}
    Engine(plan, runtime="tensorrt")
    assert asked == ["tensorrt_rtx", "tensorrt"]


def test_no_gpu(plan):
    pytest.importorskip("tensorrt_rtx")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    for device in ("cuda", "cuda:3", "cpu"):
        with pytest.raises(InputError, match=f"device {device}: .*PyTorch sees 0"):
            Engine(plan, device=device)


def test_no_plan(tmp_path):
    for path, words in (
        (tmp_path / "none.plan", r"none\.plan: cannot be read \(No such file"),
        (tmp_path, r"cannot be read \(Is a directory\)"),
        ("/proc/self/mem", "damaged .* or no file on a disk"),
        ("/dev/null", "a pipe or a device"),
    ):
        with pytest.raises(InputError, match=f"{words}.*lesionkit export --format tensorrt"):
            Engine(path)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt_rtx", "tensorrt_lean"])
def test_the_fake_has_nothing_that_the_real_one_lacks(name):
    """Else Engine could call what only the fake knows."""
    trt = pytest.importorskip(name, exc_type=ImportError)
    own = {"contexts", "tensors", "trt", "half", "network", "engine", "config", "compute"}
    for real, imitation in (
        (trt.ICudaEngine, fake.CudaEngine),
        (trt.IExecutionContext, fake.ExecutionContext),
    ):
        names = {n for n in vars(imitation) if not n.startswith("_")} - own
        assert names
        assert names <= {*dir(real)}
    assert {m.name for m in fake.DataType} <= {*dir(trt.DataType)}
    assert {m.name for m in fake.TensorIOMode} <= {*dir(trt.TensorIOMode)}
