"""Running a plan on torch tensors."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lesionkit.deploy.plan import capability_of, load_plan, read_description
from lesionkit.deploy.runtimes import load_runtime, log_of
from lesionkit.errors import InputError

_TYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "INT8": torch.int8,
    "UINT8": torch.uint8,
    "BOOL": torch.bool,
}
INPUT = "images"
_ALIGNMENT = 256  # bytes, of what set_tensor_address takes


class Engine:
    """A plan, ready to run on one GPU.

    ``engine(images)`` is what the exported graph computes; ``engine.detect(images)`` gives what
    the detector gives. Work is ordered on PyTorch's current stream, as that of any torch op, and
    nothing waits for the GPU but ``detect``. Not to be called from two threads at a time.

    Args:
        plan: a plan of ``build_engine``, or another one with the input and outputs of
            ``export_onnx``, such as trtexec makes.
        runtime: "tensorrt", "tensorrt_rtx" or, for version-compatible plans, "tensorrt_lean";
            "auto" for the one that the plan was built with or, where no JSON file beside it says
            so, the first that is installed.
        device: a CUDA device.
        cuda_graph: launch the engine as one CUDA graph for each batch size, which saves time where
            kernels are short. The first run of each size records it. Not every plan can be
            recorded: TensorRT cannot where the shape of an intermediate result hangs on the data.

    Attributes:
        metadata: what the JSON file of the plan says, see ``build_engine``; else empty.
        batch: (least, largest) number of samples.
        input_shape: (M, 3, H, W).
        dtype: of the images.

    Raises InputError: no CUDA device, no such runtime, a missing plugin library, or a plan that
    the runtime does not take (another GPU or version, truncated, no plan); each with the remedy.
    """

    def __init__(
        self,
        plan: str | os.PathLike,
        *,
        runtime: str = "auto",
        device: str | torch.device = "cuda",
        cuda_graph: bool = False,
    ) -> None:
        plan = Path(plan)
        self.metadata = read_description(plan)
        if runtime == "auto":
            runtime = self.metadata.get("runtime", "auto")
        self._trt = load_runtime(runtime)
        self.device = _cuda_device(device)
        with torch.cuda.device(self.device):
            self._engine = load_plan(self._trt, plan, self.metadata, capability_of(self.device))
            # RTX compiles kernels as it meets shapes, and records its graphs itself around that.
            strategy = getattr(self._trt, "CudaGraphStrategy", None) if cuda_graph else None
            self._context = self._new_context(strategy)
            self._ran = torch.cuda.Event()
            self._side = torch.cuda.Stream()
        self._graphs: dict[int, _Graph] | None = {} if cuda_graph and strategy is None else None
        self._describe(plan)

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """The graph's outputs for ``images`` [B, M, 3, H, W].

        Args:
            images: preprocessed, on the engine's device, of its ``dtype`` and ``input_shape``; B
                within ``batch``.

        Returns:
            "boxes" [B, N, 4] and "scores" [B, N], float32, by falling score and padded with
            zeros; "count" [B], int32, how many are detections; -1 if numbers were not finite, -2
            if non-maximum suppression did not settle.

        Raises ValueError or TypeError about ``images``, RuntimeError if TensorRT fails.
        """
        self._check(images)
        with torch.cuda.device(self.device):
            if torch.cuda.is_current_stream_capturing():
                raise RuntimeError("the engine runs in no other CUDA graph; use cuda_graph=True")
            stream = torch.cuda.current_stream()
            stream.wait_event(self._ran)  # the memory of a context serves one run at a time
            images = images.detach().contiguous()
            if images.data_ptr() % _ALIGNMENT:
                images = images.clone()
            outputs = self._replay(images) if self._graphs is not None else self._run(images)
            self._ran.record(stream)
        return outputs

    def detect(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Per sample {"boxes": [n, 4], "scores": [n]}, as ``LesionDetector`` in evaluation mode.

        Boxes are inclusive xyxy pixels of the preprocessed image, by falling score. Raises as a
        call does, FloatingPointError for a sample whose numbers were not finite, and RuntimeError
        for one on which non-maximum suppression did not settle.
        """
        found = self(images)
        counts = found["count"].tolist()
        if -1 in counts:
            raise FloatingPointError(
                f"scores or boxes of sample {counts.index(-1)} are not finite; the weights are "
                "broken, or too large for float16"
            )
        if -2 in counts:
            raise RuntimeError(
                f"sample {counts.index(-2)} has longer chains of overlapping boxes than the graph "
                "has rounds of non-maximum suppression for; run it with LesionDetector"
            )
        rows = zip(found["boxes"], found["scores"], counts, strict=True)
        return [{"boxes": boxes[:n], "scores": scores[:n]} for boxes, scores, n in rows]

    def _new_context(self, strategy: Any = None) -> Any:
        if strategy is None:
            context = self._engine.create_execution_context()
        else:
            config = self._engine.create_runtime_config()
            config.cuda_graph_strategy = strategy.WHOLE_GRAPH_CAPTURE
            context = self._engine.create_execution_context(config)
        if context is None:
            raise RuntimeError(
                f"{self._trt.__name__} gives no execution context: {self._reasons()}"
            )
        return context

    def _describe(self, plan: Path) -> None:
        """Read the engine's inputs and outputs; InputError unless they are a detector's."""
        engine, modes = self._engine, self._trt.TensorIOMode
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == modes.INPUT]
        outputs = [name for name in names if engine.get_tensor_mode(name) == modes.OUTPUT]
        kinds = {name: engine.get_tensor_dtype(name).name for name in names}
        least, most = (), ()
        if inputs == [INPUT]:
            least, _, most = (tuple(s) for s in engine.get_tensor_profile_shape(INPUT, 0))
        if (
            len(most) != 5
            or not {"boxes", "scores", "count"} <= {*outputs}
            or not {*kinds.values()} <= {*_TYPES}
        ):
            raise InputError(
                f"{plan}: has the inputs {_listed(inputs, kinds)} and the outputs "
                f"{_listed(outputs, kinds)}, not those of a detector that lesionkit exported; "
                "give such a plan"
            )
        self._outputs = {name: _TYPES[kinds[name]] for name in outputs}
        self.dtype = _TYPES[kinds[INPUT]]
        self.batch = (least[0], most[0])
        self.input_shape = most[1:]

    def _check(self, images: Tensor) -> None:
        if not isinstance(images, Tensor):
            raise TypeError(f"images must be a tensor, got {type(images).__name__}")
        if images.dtype != self.dtype:
            raise TypeError(f"images must be {self.dtype}, got {images.dtype}")
        if images.device != self.device:
            raise ValueError(f"images must be on {self.device}, got {images.device}")
        least, most = self.batch
        shape = tuple(images.shape)
        if shape[1:] != self.input_shape or not least <= shape[0] <= most:
            sizes = ", ".join(map(str, self.input_shape))
            raise ValueError(
                f"images must be [B, {sizes}] with B from {least} to {most}, got {list(shape)}; "
                "other sizes need another export"
            )

    def _bind(self, context: Any, images: Tensor) -> dict[str, Tensor]:
        """Point a context at ``images`` and at new outputs, which are returned."""
        self._done(context.set_input_shape(INPUT, tuple(images.shape)), "set_input_shape")
        self._done(context.set_tensor_address(INPUT, images.data_ptr()), "set_tensor_address")
        outputs = {}
        for name, dtype in self._outputs.items():
            shape = tuple(context.get_tensor_shape(name))
            outputs[name] = torch.empty(shape, dtype=dtype, device=self.device)
            address = outputs[name].data_ptr()
            self._done(context.set_tensor_address(name, address), "set_tensor_address")
        return outputs

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        outputs = self._bind(self._context, images)
        stream = torch.cuda.current_stream()
        if stream != torch.cuda.default_stream():
            self._execute(self._context, stream)
        else:  # there TensorRT would wait for the whole device
            self._side.wait_stream(stream)
            self._execute(self._context, self._side)
            stream.wait_stream(self._side)
        return outputs

    def _execute(self, context: Any, stream: torch.cuda.Stream) -> None:
        self._done(context.execute_async_v3(stream.cuda_stream), "execute_async_v3")

    def _done(self, succeeded: bool, step: str) -> None:
        if not succeeded:
            raise RuntimeError(f"{self._trt.__name__}: {step}: {self._reasons()}")

    def _reasons(self) -> str:
        return "; ".join(log_of(self._trt).take())

    def _replay(self, images: Tensor) -> dict[str, Tensor]:
        size = images.shape[0]
        if size not in self._graphs:
            self._graphs[size] = self._record(images)
        graph = self._graphs[size]
        graph.images.copy_(images)
        graph.graph.replay()  # on the current stream, as the copies around it
        return {name: output.clone() for name, output in graph.outputs.items()}

    def _record(self, images: Tensor) -> "_Graph":
        """Record a run as a CUDA graph, with a context whose shapes never change again."""
        context = self._new_context()
        images = images.clone()
        outputs = self._bind(context, images)
        self._side.wait_stream(torch.cuda.current_stream())
        self._execute(context, self._side)  # what a new shape has put off is not to be recorded
        self._side.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._side):
                self._execute(context, self._side)
        except RuntimeError as error:
            raise RuntimeError(
                f"this plan cannot be recorded as a CUDA graph ({error}); use cuda_graph=False"
            ) from error
        return _Graph(graph, context, images, outputs)


class _Graph(NamedTuple):
    """A recorded run: it reads ``images`` and writes ``outputs``, in the memory of ``context``."""

    graph: torch.cuda.CUDAGraph
    context: Any
    images: Tensor
    outputs: dict[str, Tensor]


def _listed(names: list[str], kinds: dict[str, str]) -> str:
    return ", ".join(f"{name} ({kinds[name]})" for name in names)


def _cuda_device(device: str | torch.device) -> torch.device:
    """The device with its number; InputError unless it is a GPU that is there."""
    device = torch.device(device)
    count = torch.cuda.device_count()
    if device.type != "cuda" or (device.index or 0) >= count:
        raise InputError(
            f"device {device}: TensorRT runs on CUDA devices, and PyTorch sees {count}; "
            "`lesionkit doctor` says more"
        )
    index = torch.cuda.current_device() if device.index is None else device.index
    return torch.device("cuda", index)
