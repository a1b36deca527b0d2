"""``lesionkit export``: a detector for other runtimes."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from lesionkit.cli.options import Out, Overwrite
from lesionkit.errors import InputError

if TYPE_CHECKING:
    from lesionkit.models import LesionDetector

FORMATS = {  # and the files that each writes
    "onnx": ("detector.onnx",),
    "tensorrt": ("detector.onnx", "detector.plan", "detector.plan.json"),
    "triton": (
        "detector.onnx",
        "README.md",
        "models/lesion_detector/config.pbtxt",
        "models/lesion_detector/1/model.plan",
        "plugins/*.so",
    ),
}
ENGINE_OPTIONS = {
    "onnx": (),
    "tensorrt": ("--batch", "--runtime", "--compute-capability"),
    "triton": ("--batch",),
}
BATCH = "1,1,4"
MOST_PIXELS = 1 << 14  # a side
MOST_NUMBERS = 2**31 - 1  # in a tensor of TensorRT's


def export(
    weights: Annotated[
        Path, typer.Option("--weights", help="A detector's .safetensors file.", show_default=False)
    ],
    out: Out,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="onnx: one file for any batch size. tensorrt: that and an engine of it. triton: "
            "a model repository of NVIDIA Triton Inference Server.",
        ),
    ] = "onnx",
    form: Annotated[
        str,
        typer.Option(
            "--form",
            help="native: standard ONNX operators alone. plugin: a node of domain lesionkit for "
            "each op, for TensorRT with lesionkit's plugins.",
        ),
    ] = "native",
    precision: Annotated[
        str, typer.Option("--precision", help="float32, or float16 for weights and feature maps.")
    ] = "float32",
    image_size: Annotated[
        str | None,
        typer.Option(
            "--image-size",
            help="Pixels of the preprocessed images, N or HEIGHTxWIDTH; smaller ones are padded.",
            show_default="the most that the detector's preprocessing gives",
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch",
            help="Least, usual and largest batch of an engine.",
            show_default=BATCH,
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            "--runtime",
            help="tensorrt, for the GPU here, or tensorrt_rtx, which needs none.",
            show_default="the first that is installed",
        ),
    ] = None,
    compute_capability: Annotated[
        str | None,
        typer.Option(
            "--compute-capability",
            help="GPUs that tensorrt_rtx builds for, such as 89 or 80,86,89,120.",
            show_default="all",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a detector for other runtimes than PyTorch.

    The graph goes from preprocessed images to boxes, scores and a count, proposals and
    non-maximum suppression included. Its metadata holds the preprocessing and the config.
    """
    _check_choice("--format", format, FORMATS)
    _check_choice("--form", form, ("native", "plugin"))
    _check_choice("--precision", precision, ("float32", "float16"))
    size = parse_size(image_size)
    given = {"--batch": batch, "--runtime": runtime, "--compute-capability": compute_capability}
    for option, value in given.items():
        if value is not None and option not in ENGINE_OPTIONS[format]:
            raise InputError(f"{option} {value}: has no meaning with --format {format}")
    sizes = parse_batch(BATCH if batch is None else batch)
    if format == "triton" and sizes[0] != 1:
        raise InputError(f"--batch {batch}: Triton sends single samples too; begin with 1")
    targets = parse_numbers("--compute-capability", compute_capability)

    from lesionkit.cli.output import check_output, result_folder
    from lesionkit.cli.progress import progress
    from lesionkit.deploy import build_engine, export_onnx, write_triton_repository
    from lesionkit.models import load_detector

    names = FORMATS[format]
    check_output(out, overwrite, "export", names)
    builder = _check_engine(format, form, "auto" if runtime is None else runtime, targets)
    model = load_detector(weights)
    size = _check_size(model, size, None if format == "onnx" else sizes[2])
    arguments = {
        "weights": str(weights),
        "format": format,
        "form": form,
        "precision": precision,
        "image_size": image_size,
        "batch": batch,
        "runtime": runtime,
        "compute_capability": compute_capability,
    }
    config = {"command": "export", "arguments": arguments, "detector": model.config.to_dict()}
    with result_folder(out, overwrite, config, names) as folder:
        onnx = folder / "detector.onnx"
        given = {onnx: weights, folder: out}
        with progress(f"exporting {weights}"):
            export_onnx(model, onnx, form=form, image_size=size, precision=precision)
        if builder is not None:
            with (
                progress(f"building the engine with {builder}"),
                TemporaryDirectory() as scratch,
                _named(given),
            ):
                plan = Path(folder if format == "tensorrt" else scratch, "detector.plan")
                build_engine(onnx, plan, runtime=builder, batch=sizes, compute_capability=targets)
                if format == "triton":
                    write_triton_repository(onnx, folder, plan=plan)
        elif format == "triton":
            write_triton_repository(onnx, folder, batch=sizes)
    result = {"onnx": "detector.onnx", "tensorrt": "detector.plan", "triton": "README.md"}[format]
    print(f"{form} form, {precision}: {out / result}")
    if format == "triton" and builder is None:
        print("TensorRT is not installed here: README.md says how to build the engine")


@contextmanager
def _named(given: Mapping[Path, Path]) -> Iterator[None]:
    """Have errors name what the user gave, not files that are gone when they are read."""
    try:
        yield
    except InputError as error:
        text = str(error)
        for path, name in given.items():
            text = text.replace(str(path), str(name))
        raise InputError(text) from None


def _check_size(
    model: "LesionDetector", size: tuple[int, int] | None, samples: int | None
) -> tuple[int, int]:
    """The (height, width) of images; InputError if the model, or an engine for so many samples,
    cannot have them."""
    from lesionkit.deploy.onnx import checked_size

    try:
        size = checked_size(model, size)
    except InputError as error:
        raise InputError(f"--image-size: {error}") from None
    shape = (samples or 1, model.config.num_images, 3, *size)
    if samples and prod(shape) > MOST_NUMBERS:
        raise InputError(
            f"--batch, --image-size: images {[*shape]} have more than the {MOST_NUMBERS} numbers "
            "that TensorRT takes in a tensor; make one of them smaller"
        )
    return size


def _check_engine(
    format: str, form: str, runtime: str, targets: tuple[int, ...] | None
) -> str | None:
    """The runtime that will build the engine, None if none will; InputError if it could not."""
    from lesionkit.deploy.plugins import why_no_library
    from lesionkit.deploy.runtimes import check_compute_capability, load_runtime, why_not

    if format == "onnx":
        return None
    if form == "plugin" and (problem := why_no_library()):
        raise InputError(f"--form plugin: {problem}; or take the native form")
    if format == "triton":  # no other runtime's plans are any use to it
        return "tensorrt" if why_not("tensorrt") is None else None
    trt = load_runtime(runtime, "Builder")
    if targets is not None:
        try:
            check_compute_capability(trt, targets)
        except InputError as error:
            raise InputError(f"--{str(error).replace('_', '-', 1)}") from None
    return trt.__name__


def parse_batch(text: str) -> tuple[int, int, int]:
    """ "1,1,4" as least, usual and largest size."""
    sizes = parse_numbers("--batch", text)
    if len(sizes) != 3 or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
        raise InputError(f"--batch {text}: must be LEAST,USUAL,LARGEST, rising, such as {BATCH}")
    return sizes


def parse_numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """ "80,86" as (80, 86)."""
    if text is None:
        return None
    parts = text.split(",")
    if not all(map(_is_number, parts)):
        raise InputError(f"{option} {text}: must be whole numbers with commas between them")
    return tuple(map(int, parts))


def _is_number(text: str) -> bool:
    return re.fullmatch("[0-9]{1,9}", text) is not None


def parse_size(text: str | None) -> tuple[int, int] | None:
    """ "N" or "HEIGHTxWIDTH" as (height, width)."""
    if text is None:
        return None
    sides = text.split("x")
    if (
        len(sides) > 2
        or not all(map(_is_number, sides))
        or not all(1 <= int(side) <= MOST_PIXELS for side in sides)
    ):
        raise InputError(
            f"--image-size {text}: must be N or HEIGHTxWIDTH, whole numbers of pixels from 1 to "
            f"{MOST_PIXELS}"
        )
    return int(sides[0]), int(sides[-1])


def _check_choice(option: str, value: str, allowed) -> None:
    if value not in allowed:
        raise InputError(f"{option} {value}: must be {' or '.join(allowed)}")
