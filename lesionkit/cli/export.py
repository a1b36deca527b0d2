"""``lesionkit export``: a detector for other runtimes."""

from pathlib import Path
from typing import Annotated

import typer

from lesionkit.cli.options import Out, Overwrite
from lesionkit.errors import InputError

FORMATS = {"onnx": ("detector.onnx",)}  # and the files that each writes


def export(
    weights: Annotated[
        Path, typer.Option("--weights", help="A detector's .safetensors file.", show_default=False)
    ],
    out: Out,
    format: Annotated[
        str, typer.Option("--format", help="onnx, which is one file for any batch size.")
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

    from lesionkit.cli.output import check_output, result_folder
    from lesionkit.cli.progress import progress
    from lesionkit.deploy import export_onnx
    from lesionkit.models import load_detector

    names = FORMATS[format]
    check_output(out, overwrite, "export", names)
    model = load_detector(weights)
    arguments = {
        "weights": str(weights),
        "format": format,
        "form": form,
        "precision": precision,
        "image_size": image_size,
    }
    config = {"command": "export", "arguments": arguments, "detector": model.config.to_dict()}
    with (
        result_folder(out, overwrite, config, names) as folder,
        progress(f"exporting {weights}"),
    ):
        export_onnx(model, folder / names[0], form=form, image_size=size, precision=precision)
    print(f"{form} form, {precision}: {out / names[0]}")


def parse_size(text: str | None) -> tuple[int, int] | None:
    """ "N" or "HEIGHTxWIDTH" as (height, width)."""
    if text is None:
        return None
    sides = text.split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdecimal() for side in sides):
        raise InputError(f"--image-size {text}: must be N or HEIGHTxWIDTH, whole numbers of pixels")
    return int(sides[0]), int(sides[-1])


def _check_choice(option: str, value: str, allowed) -> None:
    if value not in allowed:
        raise InputError(f"{option} {value}: must be {' or '.join(allowed)}")
