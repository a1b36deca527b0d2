"""The whole detector as one ONNX file, for any runtime or for TensorRT with the plugins."""

import copy
import json
import os
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lesionkit.deploy import native_form, plugin_form
from lesionkit.deploy.graph import MAX_TOPK, DetectorGraph
from lesionkit.errors import InputError
from lesionkit.files import atomic_write, reading
from lesionkit.models import PRESETS, DetectorConfig, LesionDetector
from lesionkit.ops import backends
from lesionkit.version import __version__

if TYPE_CHECKING:
    import onnx_ir

FORMAT = "lesionkit-onnx-1"
FORMS = {"native": native_form, "plugin": plugin_form}
PRECISIONS = {"float32": torch.float32, "float16": torch.float16}
CLASS_NAMES = ("lesion",)
OPSET = 18
_KEYS = ("preprocessing", "config", "class_names", "image_size")  # JSON in the file
_MAX_BYTES = 2**31 - 2**20  # of a file that protobuf reads, with room for all but the weights


def export_onnx(
    model: LesionDetector,
    path: str | os.PathLike,
    *,
    form: str = "native",
    image_size: tuple[int, int] | None = None,
    precision: str = "float32",
) -> None:
    """Write ``model`` to ``path`` as one ONNX file, at once or not at all.

    Input "images" [B, M, 3, H, W], preprocessed, in the file's precision. Outputs "boxes"
    [B, N, 4] and "scores" [B, N], float32, by falling score and padded with zeros, and "count"
    [B], int32: how many are detections; -1 if the sample's numbers were not finite, -2 if
    non-maximum suppression needs more rounds than the graph has, which no known image does. B is
    dynamic, N = ``config.rpn_post_nms[1]``. The result is that of ``model(images)``; the least side
    of proposals, ``config.rpn_min_size``, counts in pixels of the preprocessed image.

    Args:
        model: the detector; it stays as it is.
        path: the file to write.
        form: "native" has standard operators alone and runs anywhere; "plugin" has a node of
            domain "lesionkit" for each op, for TensorRT with lesionkit's plugins.
        image_size: (H, W), by default the square of ``preprocessing.max_size``. Smaller images
            are padded to it with zeros, to the right and below.
        precision: "float32", or "float16" for weights, images and feature maps; boxes and scores
            are computed in float32 all the same.

    Raises ValueError or TypeError naming the argument, and InputError when the packages for it are
    missing or the weights do not fit ``precision``.
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
    if not isinstance(model, LesionDetector):
        raise TypeError(f"model must be a LesionDetector, got {type(model).__name__}")
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    size = checked_size(model, image_size)
    if (count := model.config.rpn_post_nms[1]) > MAX_TOPK:
        raise InputError(
            f"rpn_post_nms[1] must be at most {MAX_TOPK}, as many as TensorRT's TopK takes, to be "
            f"exported, got {count}"
        )
    _require_packages()
    model = prepared(model, PRECISIONS[precision])

    # Two samples: torch.export takes a size of 1 for a constant.
    images = torch.zeros(2, model.config.num_images, 3, *size, dtype=PRECISIONS[precision])
    outputs = ["boxes", "scores", "count"]
    program = translate(DetectorGraph(model, size), {"images": images}, outputs, form)
    for part in (program.model.graph, *program.model.graph):
        part.metadata_props.clear()  # what the exporter notes: paths of this machine among it
    program.model.producer_name, program.model.producer_version = "lesionkit", __version__
    program.model.metadata_props.update(
        {
            "format": FORMAT,
            "version": __version__,
            "preset": _preset(model.config),
            "form": form,
            "precision": precision,
            "image_size": json.dumps(size),
            "class_names": json.dumps(CLASS_NAMES),
            "preprocessing": json.dumps(model.config.to_dict()["preprocessing"]),
            "config": json.dumps(model.config.to_dict()),
        }
    )
    with atomic_write(path) as temporary:
        program.save(temporary, external_data=False)


def read_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """What :func:`export_onnx` noted in a file.

    {"format", "version", "preset" (a name, or "custom"), "form", "precision"}, strings, and
    {"image_size": [H, W], "class_names", "preprocessing", "config"}, as JSON has them. Raises
    InputError when the file is missing, damaged or not from lesionkit.
    """
    _require_packages()
    import onnx
    from google.protobuf.message import DecodeError

    try:
        with reading(path, "give an ONNX file"):
            file = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise InputError(
            f"{path}: damaged or not an ONNX file ({error}); export it again"
        ) from None
    noted = {entry.key: entry.value for entry in file.metadata_props}
    if noted.get("format") != FORMAT:
        raise InputError(
            f"{path}: its metadata does not say format {FORMAT!r} (found {noted.get('format')!r}); "
            "give a file that this version of lesionkit has exported"
        )
    try:
        return {key: json.loads(value) if key in _KEYS else value for key, value in noted.items()}
    except ValueError as error:
        raise InputError(f"{path}: damaged metadata ({error}); export it again") from None


def checked_size(model: LesionDetector, size: object) -> tuple[int, int]:
    """(H, W), the default for None; InputError for a size that ``model`` cannot have."""
    if size is None:
        size = (model.config.preprocessing.max_size,) * 2
    least = model.backbone.stride
    valid = isinstance(size, tuple | list) and len(size) == 2
    if not valid or not all(type(side) is int and least <= side <= 1 << 14 for side in size):
        raise InputError(
            f"image_size must be (height, width), integers from {least} to {1 << 14} pixels, "
            f"got {size!r}"
        )
    return tuple(size)


def _require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            f"ONNX export needs the package {error.name}, which is not installed; "
            'pip install "lesionkit[deploy]"'
        ) from None


def prepared(model: LesionDetector, dtype: torch.dtype) -> LesionDetector:
    """A copy on the CPU in evaluation mode, in the precision of the file."""
    anchors = model.rpn.anchors.detach().to("cpu", torch.float32)
    model = copy.deepcopy(model).cpu().eval().requires_grad_(False).to(dtype)
    model.rpn.anchors = anchors  # box arithmetic stays in float32
    for name, value in model.named_parameters():
        if not value.isfinite().all():
            raise InputError(
                f"weights {name} are not finite in {str(dtype).removeprefix('torch.')}; take "
                "weights of a training that did not diverge, or precision float32"
            )
    weights = sum(value.nbytes for value in model.parameters())
    if weights > _MAX_BYTES:
        raise InputError(
            f"the weights take {weights / 2**30:.1f} GiB, and an ONNX file holds 2; use precision "
            "float16 or a smaller detector"
        )
    return model


def translate(
    module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], form: str
) -> "torch.onnx.ONNXProgram":
    """``module`` in ONNX; the first axis of the inputs, example tensors by name, is the batch."""
    if not backends.has_library():
        raise InputError(
            "export needs the ops of lesionkit's C++ library, which is not built; reinstall "
            "lesionkit with a C++ compiler"
        )
    batch = torch.export.Dim("batch")
    with torch.no_grad(), backends.use_backend("cpu"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter's own insides
        with _Form(form):
            program = torch.export.export(
                module,
                (),
                inputs,
                dynamic_shapes={name: {0: batch} for name in inputs},
                strict=False,
            )
        program = torch.onnx.export(
            program,
            input_names=[*inputs],
            output_names=outputs,
            dynamic_shapes={name: {0: "batch"} for name in inputs},  # here for the name alone
            opset_version=OPSET,
            custom_translation_table={torch.ops.lesionkit_deploy.settle.default: _settle},
            optimize=False,  # see below
            verbose=False,
        )
        _simplify(program.model)
    own = [node for node in program.model.graph if node.domain == plugin_form.DOMAIN]
    for number, node in enumerate(own):  # TensorRT names layers and timings after them
        node.name = f"{node.op_type}_{number}"
    return program


def _simplify(model: "onnx_ir.Model") -> None:
    """Fold what is constant, and drop what is not used.

    The exporter's own ``optimize`` rewrites patterns, too, and looks for each of them at all nodes
    of all rounds of suppression, which takes longer than all the rest.
    """
    from onnx_ir.passes import common
    from onnxscript import optimizer

    optimizer.inline(model)
    for _ in range(2):  # what the first leaves is smaller, and known better
        optimizer.fold_constants(model)
        common.RemoveUnusedNodesPass()(model)
    for simplify in (
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
    ):
        simplify(model)


class _Form(TorchFunctionMode):
    """Puts a form's functions in the place of lesionkit's ops."""

    def __init__(self, form: str) -> None:
        super().__init__()
        names = ("contextual_attention", "spatial_attention", "dual_attention", "ps_roi_pool")
        functions = FORMS[form]
        self.replacements = {
            getattr(torch.ops.lesionkit, name).default: getattr(functions, name) for name in names
        }

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return self.replacements.get(function, function)(*args, **(kwargs or {}))


def _settle(suppresses, rounds: int):
    """:func:`lesionkit.deploy.graph.settle` in ONNX."""
    from onnxscript import opset18 as op

    half = op.Constant(value_float=0.5)
    # With all staying, the first round asks whom anybody drops.
    dropped = op.ReduceMax(suppresses, op.Constant(value_ints=[1]), keepdims=1)
    after = op.Cast(op.Less(dropped, half), to=1)
    for _ in range(rounds):
        before, after = after, op.Cast(op.Less(op.MatMul(after, suppresses), half), to=1)
    return op.Squeeze(op.Mul(op.Add(before, after), half), op.Constant(value_ints=[1]))


def _preset(config: DetectorConfig) -> str:
    return next((name for name, preset in PRESETS.items() if preset == config), "custom")
