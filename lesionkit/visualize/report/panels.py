"""Pictures of attention in a page."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lesionkit.visualize.attention import Attention, draw_contextual, draw_spatial
from lesionkit.visualize.report.options import ReportOptions
from lesionkit.visualize.report.page import Figure
from lesionkit.visualize.windows import Window

if TYPE_CHECKING:
    import matplotlib.figure

    from lesionkit.models import LesionDetector


def attention_figures(
    attention: Attention, box: Sequence[float], window: Window, name: str
) -> list[Figure]:
    """What a detector has of attention, on one lesion; ``name`` says which."""
    figures = []
    if "contextual" in attention.weights:
        text = (
            "How much each image of the sample counts on the lesion's grid cells (columns of the "
            "first map) and in the channels of its centre cell (columns of the second), beside the "
            "slices of the images. Rows are images from head to feet; the key slice is the middle "
            "one."
        )
        png = to_png(draw_contextual(attention, box, window))
        figures.append(Figure(f"Contextual attention: {name}", text, png))
    if "spatial" in attention.weights:
        text = (
            "Where on each image the detector looks: the mean of the spatial attention maps over "
            "the channels, below the images' middle slices."
        )
        png = to_png(draw_spatial(attention, [box], window))
        figures.append(Figure(f"Spatial attention: {name}", text, png))
    return figures


def attention_note(options: ReportOptions, model: "LesionDetector | None") -> list[str]:
    """Why there are no such figures, if that is so against the user's wish."""
    if model or not options.attention:
        return []
    return [
        "Attention is not shown: the weights of the run are not at hand (--weights gives them), or "
        "the detector has none."
    ]


def to_png(figure: "matplotlib.figure.Figure") -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
