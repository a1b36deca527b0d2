"""A model repository for NVIDIA Triton Inference Server."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lesionkit.deploy.build import checked_batch
from lesionkit.deploy.onnx import read_metadata
from lesionkit.deploy.plan import read_description
from lesionkit.deploy.plugins import LIBRARY, REGISTER, why_no_library
from lesionkit.errors import InputError
from lesionkit.files import atomic_write

MODEL = "lesion_detector"
PLAN = f"models/{MODEL}/1/model.plan"


def write_triton_repository(
    onnx: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    plan: str | os.PathLike | None = None,
    batch: tuple[int, int, int] = (1, 1, 4),
) -> None:
    """Write a folder from which Triton Inference Server serves a detector.

    ``models/`` is the model repository: one model with its config.pbtxt, in which ``parameters``
    tell clients how to preprocess. ``plugins/`` holds the plugin libraries if the ONNX file needs
    them. README.md says how to start the server.

    The server's TensorRT must be the very version that built the plan, on the same sort of GPU.
    Where that is not here, leave ``plan`` out: README.md has the trtexec command that makes it
    in the server's own container.

    Args:
        onnx: a file that ``export_onnx`` wrote; it is copied.
        folder: where all this goes.
        plan: a plan of the same file by ``build_engine`` with runtime "tensorrt"; it is copied.
        batch: least, usual and largest number of samples, for the trtexec command, and the
            largest for the server. That of ``plan`` if there is one.

    Raises InputError: a file is not what it should be, or the plugins are not built here; and
    ValueError for an impossible batch.
    """
    onnx, folder = Path(onnx), Path(folder)
    detector = read_metadata(onnx)
    batch = checked_batch(batch) if plan is None else _checked_plan(Path(plan), detector)
    if batch[0] != 1:
        raise InputError(f"batch {tuple(batch)}: Triton sends single samples too; begin with 1")
    libraries = (LIBRARY, REGISTER) if detector["form"] == "plugin" else ()
    if libraries and (problem := why_no_library()):
        raise InputError(f"TensorRT plugins: {problem}; or export the native form")

    if plan is not None:
        _copy(Path(plan), folder / PLAN)
    for library in libraries:
        _copy(library, folder / "plugins" / library.name)
    if not (folder / "detector.onnx").exists() or not onnx.samefile(folder / "detector.onnx"):
        _copy(onnx, folder / "detector.onnx")
    _write(folder / "models" / MODEL / "config.pbtxt", model_config(detector, batch[2]))
    _write(folder / "README.md", _readme(detector, batch, plan is not None))


def model_config(detector: Mapping[str, Any], largest_batch: int) -> str:
    """config.pbtxt of a detector with this metadata, in protobuf's text format."""
    height, width = detector["image_size"]
    images = detector["preprocessing"]["num_images"]
    rows = detector["config"]["rpn_post_nms"][1]
    kind = {"float32": "TYPE_FP32", "float16": "TYPE_FP16"}[detector["precision"]]
    # What is left out here is Triton's own choice: one instance a GPU, batches without delay.
    batcher = "dynamic_batching { }\n" if largest_batch > 1 else ""
    about = {key: detector[key] for key in ("version", "preset", "preprocessing", "class_names")}
    parameters = "".join(
        f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}\n"
        for key, value in about.items()
    )
    return f"""name: "{MODEL}"
platform: "tensorrt_plan"
max_batch_size: {largest_batch}
input [
  {{ name: "images" data_type: {kind} dims: [ {images}, 3, {height}, {width} ] }}
]
output [
  {{ name: "boxes" data_type: TYPE_FP32 dims: [ {rows}, 4 ] }},
  {{ name: "scores" data_type: TYPE_FP32 dims: [ {rows} ] }},
  {{ name: "count" data_type: TYPE_INT32 dims: [ 1 ] reshape {{ shape: [ ] }} }}
]
{batcher}{parameters}"""


def _quoted(value: Any) -> str:
    """A string of protobuf's text format, whose escapes are JSON's here: the text is ASCII."""
    return json.dumps(value if isinstance(value, str) else json.dumps(value))


def _checked_plan(plan: Path, detector: Mapping[str, Any]) -> list[int]:
    """The batch of a plan; InputError unless Triton can load it and it is of this detector."""
    about = read_description(plan)
    if about.get("runtime") != "tensorrt":
        maker = about.get("runtime", "an unknown program")
        raise InputError(
            f"{plan}: is a plan of {maker}, and Triton Inference Server loads those of tensorrt; "
            "leave it out, and make one as the repository's README.md says"
        )
    if about["detector"] != detector:
        raise InputError(f"{plan}: was not built from this ONNX file; build it again")
    return about["batch"]


def _copy(source: Path, target: Path) -> None:
    with atomic_write(target) as path:
        shutil.copyfile(source, path)


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _readme(detector: Mapping[str, Any], batch: Sequence[int], built: bool) -> str:
    height, width = detector["image_size"]
    images = detector["preprocessing"]["num_images"]
    shapes = " ".join(
        f"--{name}Shapes=images:{size}x{images}x3x{height}x{width}"
        for name, size in zip(("min", "opt", "max"), batch, strict=True)
    )
    plugins = {"build_plugins": "", "serve_plugins": "", "about_plugins": ""}
    if detector["form"] == "plugin":
        at = "/lesionkit/plugins"
        plugins = {
            "build_plugins": f" \\\n  --dynamicPlugins={at}/{LIBRARY.name}",
            "serve_plugins": f" \\\n  --backend-config=tensorrt,plugins={at}/{REGISTER.name}",
            "about_plugins": _ABOUT_PLUGINS.format(library=LIBRARY.name, register=REGISTER.name),
        }
    return _README.format(
        **{key: detector[key] for key in ("version", "preset", "form", "precision")},
        **plugins,
        when="for another GPU or release" if built else "before the first start",
        shapes=shapes,
        sizes=f"[B, {images}, 3, {height}, {width}]",
        largest=batch[2],
        kind={"float32": "FP32", "float16": "FP16"}[detector["precision"]],
        model=MODEL,
        plan=PLAN,
    )


_ABOUT_PLUGINS = """
The server opens `{register}` when it has loaded TensorRT, and this
registers the plugins of `{library}` beside it. LD_PRELOAD would be too early:
there is no TensorRT yet.
"""

_README = """# A lesion detector for NVIDIA Triton Inference Server

Written by lesionkit {version}: preset {preset}, {form} form, {precision}. Run the commands in this
folder. YY.MM stands for a release of NVIDIA's containers, the same in both, such as 26.06: a plan
runs on the version of TensorRT and the sort of GPU that it was built with alone.

Build the plan, {when}:

```bash
mkdir -p models/{model}/1
docker run --rm --gpus all -v "$PWD":/lesionkit nvcr.io/nvidia/tensorrt:YY.MM-py3 \\
  trtexec --onnx=/lesionkit/detector.onnx --stronglyTyped --skipInference \\
  {shapes} \\
  --saveEngine=/lesionkit/{plan}{build_plugins}
```

Serve:

```bash
docker run --rm --gpus all -p 8000:8000 -v "$PWD":/lesionkit \\
  nvcr.io/nvidia/tritonserver:YY.MM-py3 \\
  tritonserver --model-repository=/lesionkit/models{serve_plugins}
```
{about_plugins}
Ask (`pip install "tritonclient[http]"`). `images` is {sizes}, B up to {largest},
prepared as the parameters in config.pbtxt say and padded with zeros to the right and below:

```python
import tritonclient.http

client = tritonclient.http.InferenceServerClient("localhost:8000")
request = tritonclient.http.InferInput("images", images.shape, "{kind}")
request.set_data_from_numpy(images)
result = client.infer("{model}", [request])
count = result.as_numpy("count")[0, 0]  # negative: not finite (-1), not settled (-2)
boxes = result.as_numpy("boxes")[0, :count]  # xyxy pixels of the prepared image, inclusive
scores = result.as_numpy("scores")[0, :count]
```
"""
