"""Engines of whole detectors on a GPU: python -m bench.engine 3dce_cs_att float16 1

Microseconds from a call until its result is there, for one batch of a preset's largest images:
TensorRT's engine of the native and of the plugin form beside the same steps in PyTorch, eager and
compiled, all recorded as CUDA graphs; and the detector as Python calls it. "matched" is the share
of the float32 detector's boxes that are there again, within a pixel and 0.02 of the score. Weights
and images are random.

Prints a line of JSON: "outcome" is passed, failed, or skipped with a "reason".
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from bench.gpu.timing import described, device, synchronize
from lesionkit.deploy import Engine, build_engine, export_onnx
from lesionkit.deploy.graph import DetectorGraph
from lesionkit.deploy.onnx import PRECISIONS, prepared
from lesionkit.deploy.plugins import why_no_library
from lesionkit.deploy.runtimes import load_runtime
from lesionkit.errors import InputError
from lesionkit.models import PRESETS, LesionDetector

CALLS = 50
Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # boxes, scores, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("precision", choices=PRECISIONS)
    parser.add_argument("batch", type=int)
    arguments = parser.parse_args()
    reason = why_not()
    row = {"outcome": "skipped", "reason": reason} if reason else measured(**vars(arguments))
    print(json.dumps(row))


def why_not() -> str | None:
    """Why no engine can be measured here."""
    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA device"
    if find_spec("onnxscript") is None:
        return "onnxscript is not installed"
    try:
        load_runtime(needs="Builder")
    except InputError as error:
        return str(error)
    return None


def measured(preset: str, precision: str, batch: int) -> dict:
    """A row: what each implementation takes, how much of it matches, or its error."""
    torch.manual_seed(0)
    config = replace(PRESETS[preset], init="kaiming", backbone_weights=None)
    model = LesionDetector(config).to(device()).eval()
    size = (config.preprocessing.max_size,) * 2
    images = scans(batch, config.num_images, size)
    with torch.no_grad():
        expected = model(images)
    steps = DetectorGraph(prepared(model, PRECISIONS[precision]).to(device()), size)
    images = images.to(PRECISIONS[precision])
    trt = load_runtime(needs="Builder")
    row = {"outcome": "passed", "runtime": f"{trt.__name__} {trt.__version__}"}
    with TemporaryDirectory() as folder, torch.no_grad():
        for name, make in {
            "native": lambda: engine(model, folder, "native", precision, size, batch),
            "plugin": lambda: engine(model, folder, "plugin", precision, size, batch),
            "compiled": lambda: recorded(torch.compile(steps, dynamic=False), images),
            "eager": lambda: recorded(steps, images),
            "detector": lambda: lambda images: padded(steps.model(images)),
        }.items():
            try:
                call = make()
                row |= {
                    f"{name} microseconds": latency(call, images),
                    f"{name} matched": matched(detections(call(images)), expected),
                }
            except InputError as error:  # such as a GPU that the runtime does not know
                row |= {"outcome": "skipped", "reason": f"{name}: {error}"}
            except Exception as error:  # the others are measured all the same
                row |= {"outcome": "failed", f"{name} error": described(error)}
    return row


def scans(batch: int, num_images: int, size: tuple[int, int]) -> torch.Tensor:
    """Smooth images [B, M, 3, H, W], as bodies are."""
    coarse = torch.randn(batch * num_images, 3, *(side // 16 for side in size))
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bilinear")
    return 10 * smooth.unflatten(0, (batch, num_images)).to(device())


def engine(
    model: LesionDetector, folder: str, form: str, precision: str, size: tuple, batch: int
) -> Callable[[torch.Tensor], Outputs]:
    if form == "plugin" and (problem := why_no_library()):
        raise InputError(problem)
    onnx, plan = Path(folder, f"{form}.onnx"), Path(folder, f"{form}.plan")
    export_onnx(model, onnx, form=form, image_size=size, precision=precision)
    build_engine(onnx, plan, batch=(1, batch, batch))
    run = Engine(plan, device=device(), cuda_graph=True)

    def call(images: torch.Tensor) -> Outputs:
        found = run(images)
        return found["boxes"], found["scores"], found["count"]

    return call


def recorded(steps: Callable, images: torch.Tensor) -> Callable[[torch.Tensor], Outputs]:
    """``steps`` as a CUDA graph, with copies in and out as an engine has them."""
    if not torch.cuda.is_available():
        return steps
    given = images.clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # compiles
            steps(given)
    torch.cuda.current_stream().wait_stream(stream)
    synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        outputs = steps(given)

    def call(images: torch.Tensor) -> Outputs:
        given.copy_(images)
        graph.replay()
        return tuple(output.clone() for output in outputs)

    return call


def latency(call: Callable[[torch.Tensor], object], images: torch.Tensor) -> float:
    """Median microseconds until the device is done, after some calls that are not counted."""
    samples = []
    for _ in range(CALLS + 10 if torch.cuda.is_available() else 1):
        synchronize()
        start = time.perf_counter()
        call(images)
        synchronize()
        samples.append(1e6 * (time.perf_counter() - start))
    return round(statistics.median(samples[-CALLS:]), 1)


def padded(found: list[dict[str, torch.Tensor]]) -> Outputs:
    """A detector's result in the form of a graph's."""
    boxes, scores = (
        torch.nn.utils.rnn.pad_sequence([sample[name] for sample in found], batch_first=True)
        for name in ("boxes", "scores")
    )
    return boxes, scores, torch.tensor([len(sample["scores"]) for sample in found])


def detections(outputs: Outputs) -> list[dict[str, torch.Tensor]]:
    boxes, scores, count = outputs
    return [
        {"boxes": boxes[i, : max(n, 0)], "scores": scores[i, : max(n, 0)]}
        for i, n in enumerate(count.tolist())
    ]


def matched(found: list[dict], expected: list[dict]) -> float:
    """The share of the expected boxes that are found; 1 if none is expected."""
    same = total = 0
    for ours, right in zip(found, expected, strict=True):
        apart = (right["boxes"][:, None] - ours["boxes"]).abs().amax(-1)
        differ = (right["scores"][:, None] - ours["scores"]).abs()
        same += int(((apart <= 1) & (differ <= 0.02)).any(1).sum())
        total += len(right["scores"])
    return round(same / total, 4) if total else 1.0


if __name__ == "__main__":
    main()
