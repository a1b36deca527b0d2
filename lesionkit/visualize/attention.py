"""What a detector's attention weighs, and pictures of it as Fig. 2 and 3 of Tao et al. 2019."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from lesionkit.data.preprocess import (
    PixelTransform,
    Preprocessing,
    prepare_key_slice,
    prepare_volume_sample,
)
from lesionkit.errors import InputError
from lesionkit.models import LesionDetector
from lesionkit.visualize.windows import Window, to_grey, window_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lesionkit.data import CTVolume, DeepLesion
    from lesionkit.data.deeplesion import KeySlice

Box = Sequence[float]

_WIDTH, _DPI = 12.0, 100  # inches and dots: 1200 pixels
_COLOURS = "viridis"  # perceptually uniform, and told apart by the colour-blind
_CELLS = "#e08000"  # seen on black and on white
_PATCH = 3.0  # sides of a patch in sides of its lesion, and the least side in mm
_LEAST_PATCH = 40.0
_OUTLINES = (-300.0, 300.0)  # HU at which air and bone begin
_IN_A_ROW = 5  # maps of Fig. 3 side by side


@dataclass(frozen=True, eq=False)
class Attention:
    """A sample and its attention weights.

    Attributes:
        weights: "contextual" and "spatial", what the model has of them: [M, D, h, w] float32 in
            0..1, the weights that features are multiplied by.
        hu: [M, 3, H, W] float32, the slices as the network sees them, but in HU.
        transform: from pixels of the key slice to those of ``hu``.
        stride: pixels of ``hu`` a cell of the weights.
        interval: mm between the slices; 0 where all of them are the key slice.
        spacing: mm a pixel of ``hu``.
        title: what pictures call the sample.
    """

    weights: dict[str, np.ndarray]
    hu: np.ndarray
    transform: PixelTransform
    stride: int
    interval: float
    spacing: float
    title: str

    def box(self, box: Box) -> np.ndarray:
        """A box of the key slice, xyxy with inclusive ends, in pixels of ``hu``."""
        return self.transform.to_network(np.asarray(box, dtype=np.float64))

    def cells(self, box: Box) -> np.ndarray:
        """[n, 2] rows and columns of the grid cells whose centres are in a box of the key slice.

        At least one: that of the box's centre.
        """
        height, width = next(iter(self.weights.values())).shape[-2:]
        x1, y1, x2, y2 = self.box(box)
        x = (np.arange(width) + 0.5) * self.stride - 0.5
        y = (np.arange(height) + 0.5) * self.stride - 0.5
        inside = ((y >= y1) & (y <= y2))[:, None] & ((x >= x1) & (x <= x2))
        inside[tuple(self.centre_cell(box))] = True
        return np.argwhere(inside)

    def centre_cell(self, box: Box) -> np.ndarray:
        """[2] row and column of the cell of a box's centre."""
        shape = next(iter(self.weights.values())).shape[-2:]
        x1, y1, x2, y2 = self.box(box)
        centre = np.array([(y1 + y2 + 1) / 2, (x1 + x2 + 1) / 2]) // self.stride
        return centre.astype(int).clip(0, np.array(shape) - 1)

    def offsets(self, image: int) -> tuple[float, float, float]:
        """Where the slices of an image are, in mm from the key slice; feet are positive."""
        first = 3 * image - 3 * len(self.hu) // 2
        return tuple(self.interval * (first + channel) for channel in range(3))


def check_attention(model: LesionDetector, name: str) -> None:
    """Raise InputError for a detector without attention; ``name`` is what to call it."""
    if not (model.config.contextual or model.config.spatial):
        raise InputError(
            f"{name}: a detector without attention (contextual and spatial are both off), so "
            "there are no weights to show; give one of preset 3dce_cs_att or tiny"
        )


def scan_attention(model: LesionDetector, volume: "CTVolume", key: int) -> Attention:
    """The attention on the sample around slice ``key`` of a scan, an index into ``volume.hu``."""
    return _attention(
        model,
        lambda preprocessing: prepare_volume_sample(volume, key, preprocessing),
        volume.spacing,
        f"slice {key}",
    )


def record_attention(model: LesionDetector, dataset: "DeepLesion", record: "KeySlice") -> Attention:
    """The attention on the sample of a data set's image."""
    return _attention(
        model,
        lambda preprocessing: prepare_key_slice(dataset, record, preprocessing),
        record.spacing,
        record.file_name,
    )


@torch.inference_mode()
def _attention(
    model: LesionDetector,
    prepare: Callable[[Preprocessing], tuple[torch.Tensor, PixelTransform]],
    spacing: tuple[float, float, float],
    title: str,
) -> Attention:
    preprocessing = model.config.preprocessing
    images, transform = prepare(preprocessing)
    low, high = -1024.0, 3071.0
    hu, _ = prepare(replace(preprocessing, window=(low, high), mean=0.0))
    features = model.backbone(images.to(next(model.parameters()).device))
    _, weights = model.attention(features[None], return_weights=True)
    return Attention(
        weights={name: a[0].float().cpu().numpy() for name, a in weights.items()},
        hu=hu.numpy() * ((high - low) / 255) + low,
        transform=transform,
        stride=model.backbone.stride,
        interval=preprocessing.slice_interval if spacing[2] > 0 else 0.0,
        spacing=spacing[0] / transform.scale,
        title=title,
    )


def draw_contextual(attention: Attention, box: Box, window: Window = "soft tissue") -> "Figure":
    """Fig. 2: how much each image counts for a lesion, beside the patches of its slices.

    A row an image, with its three slices around the lesion. The first heat map has a column for
    each grid cell of the lesion, row by row of the grid, with the mean over all channels; the
    second a column for each channel of the lesion's centre cell. Each channel's largest weight
    over the images is 1.

    Args:
        attention: of a model with contextual attention.
        box: the lesion, xyxy in pixels of the key slice, inclusive ends.
        window: of the patches.
    """
    weights = attention.weights["contextual"]
    images, channels = weights.shape[:2]
    cells = attention.cells(box)
    of_cells = weights[:, :, cells[:, 0], cells[:, 1]].mean(1)
    row, column = attention.centre_cell(box)
    of_channels = _sorted_channels(weights[:, :, row, column])
    lowest = min(of_cells.min(), of_channels.min())
    scale = {"vmin": min(math.floor(10 * lowest) / 10, 0.9), "vmax": 1.0}

    figure = _figure(max(1.6 + 1.25 * images, 4.0))
    widths = [1.25, 1.25, 1.25, 3.4, 4.2, 0.15]
    grid = figure.add_gridspec(images, len(widths), width_ratios=widths)
    patch = _patch(attention, box)
    for image in range(images):
        for channel, offset in enumerate(attention.offsets(image)):
            axes = figure.add_subplot(grid[image, channel])
            is_key = image == images // 2 and channel == 1
            _show_slice(axes, attention.hu[image, channel], window_range(window), patch)
            _add_box(axes, attention.box(box), "-" if is_key else ":")
            if is_key:
                _add_cells(axes, cells, attention.stride)
            name = "key slice" if is_key else f"{offset:+g} mm" if attention.interval else "same"
            axes.set_title(name, fontsize=10, pad=2, fontweight="bold" if is_key else None)
            if channel == 0:
                axes.set_ylabel(f"image {image}", fontsize=11)
    cell_map, channel_map = (figure.add_subplot(grid[:, column]) for column in (3, 4))
    shades = cell_map.imshow(of_cells, _COLOURS, aspect="auto", interpolation="nearest", **scale)
    channel_map.imshow(of_channels, _COLOURS, aspect="auto", interpolation="nearest", **scale)
    means = weights[:, :, cells[:, 0], cells[:, 1]].mean((1, 2))
    names = [
        f"{q}{' (key)' if q == images // 2 else ''}\nmean {means[q]:.2f}" for q in range(images)
    ]
    cell_map.set_yticks(range(images), names, fontsize=10)
    cell_map.set_ylabel("image, mean on the lesion", fontsize=11)
    channel_map.set_yticks([])
    plural = "s" if len(cells) > 1 else ""
    cell_map.xaxis.get_major_locator().set_params(integer=True)
    cell_map.set_xlabel(f"grid cells of the lesion\n({len(cells)} cell{plural}, row by row)")
    cell_map.set_title("Mean over channels", fontsize=12)
    channel_map.set_xlabel(f"channels\n({channels}, sorted by the image that counts most)")
    channel_map.set_title("Channels of the centre cell", fontsize=12)
    bar = figure.colorbar(shades, cax=figure.add_subplot(grid[:, 5]))
    bar.set_label("weight (1: the image that counts most)", fontsize=11)
    figure.suptitle(f"Contextual attention on a lesion, {attention.title}", fontsize=14)
    _explain(figure, attention, window)
    return figure


def draw_spatial(
    attention: Attention, boxes: Sequence[Box] = (), window: Window = "soft tissue"
) -> "Figure":
    """Fig. 3: where on each image the detector looks.

    The images' middle slices stand above, the maps, the mean over all channels, below, with the
    outlines of body, air and bone drawn over them; one scale for all images. Each channel's
    largest weight on an image is 1.

    Args:
        attention: of a model with spatial attention.
        boxes: lesions, xyxy in pixels of the key slice, inclusive ends.
        window: of the slices.
    """
    maps = attention.weights["spatial"].mean(1)
    images, height, width = maps.shape
    columns = max(min(images, _IN_A_ROW), 3)
    blocks = math.ceil(images / columns)
    sides = attention.hu.shape[-2] / attention.hu.shape[-1]
    figure = _figure(1.0 + blocks * (2 * (_WIDTH - 1) / columns * min(sides, 1.3) + 0.3))
    grid = figure.add_gridspec(2 * blocks, columns)
    stride, every = attention.stride, []
    extent = (-0.5, width * stride - 0.5, height * stride - 0.5, -0.5)
    for image in range(images):
        row, column = 2 * (image // columns), image % columns
        is_key = image == images // 2
        offset = attention.offsets(image)[1]
        above, below = (figure.add_subplot(grid[row + part, column]) for part in (0, 1))
        for axes in (above, below):
            whole = (-0.5, attention.hu.shape[-1] - 0.5, attention.hu.shape[-2] - 0.5, -0.5)
            _show_slice(axes, attention.hu[image, 1], window_range(window), whole)
            for box in boxes:
                _add_box(axes, attention.box(box), "-" if is_key else ":")
            every.append(axes)
        shades = below.imshow(
            maps[image],
            _COLOURS,
            extent=extent,
            interpolation="nearest",
            vmin=math.floor(100 * maps.min()) / 100,
            vmax=math.ceil(100 * maps.max()) / 100,
            zorder=0.5,
        )
        hu = attention.hu[image, 1]
        if hu.min() < _OUTLINES[0] < hu.max():
            below.contour(hu, _OUTLINES, colors="white", linewidths=0.6, linestyles="solid")
        below.axis(whole)
        where = "key slice" if is_key else f"{offset:+g} mm" if attention.interval else "same slice"
        above.set_title(
            f"image {image}: {where}", fontsize=11, fontweight="bold" if is_key else None
        )
        if column == 0:
            above.set_ylabel("slice", fontsize=11)
            below.set_ylabel("spatial attention", fontsize=11)
    bar = figure.colorbar(shades, ax=every, fraction=0.02, pad=0.01)
    bar.set_label("weight, mean over channels", fontsize=11)
    figure.suptitle(f"Spatial attention, {attention.title}", fontsize=14)
    lines = " and ".join(f"{level:g}" for level in _OUTLINES)
    _explain(figure, attention, window, f" Lines on the maps: {lines} HU.")
    return figure


def _figure(height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)  # not pyplot, which may look for a display
    return figure


def _sorted_channels(weights: np.ndarray) -> np.ndarray:
    """[M, D] sorted by the image with the largest weight, then by the mean of all weights."""
    return weights[:, np.lexsort((weights.mean(0), weights.argmax(0)))]


def _patch(attention: Attention, box: Box) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of the square around a lesion, inside the slice if it fits."""
    x1, y1, x2, y2 = attention.box(box)
    side = max(_PATCH * (max(x2 - x1, y2 - y1) + 1), _LEAST_PATCH / attention.spacing)
    ends = []
    for middle, length in (
        ((x1 + x2) / 2, attention.hu.shape[-1]),
        ((y1 + y2) / 2, attention.hu.shape[-2]),
    ):
        start = min(max(middle - side / 2, -0.5), max(length - 0.5 - side, -0.5))
        ends.append((start, min(start + side, length - 0.5)))
    (left, right), (top, bottom) = ends
    return left, right, bottom, top


def _show_slice(
    axes: "Axes",
    hu: np.ndarray,
    window: tuple[float, float],
    view: tuple[float, float, float, float],
) -> None:
    grey = to_grey(hu, window)
    axes.imshow(grey, "gray", vmin=0, vmax=255, interpolation="bilinear", zorder=0)
    axes.axis(view)
    axes.set_xticks([])
    axes.set_yticks([])


def _add_box(axes: "Axes", box: np.ndarray, style: str) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    x1, y1, x2, y2 = box
    corner, size = (x1 - 0.5, y1 - 0.5), (x2 - x1 + 1, y2 - y1 + 1)
    look = {"edgecolor": "white", "facecolor": "none", "linestyle": style, "linewidth": 1.3}
    seen_on_white = [withStroke(linewidth=3, foreground="black")]
    axes.add_patch(Rectangle(corner, *size, **look, path_effects=seen_on_white))


def _add_cells(axes: "Axes", cells: np.ndarray, stride: int) -> None:
    from matplotlib.patches import Rectangle

    look = {"edgecolor": _CELLS, "facecolor": "none", "linewidth": 0.6}
    for row, column in cells:
        corner = column * stride - 0.5, row * stride - 0.5
        axes.add_patch(Rectangle(corner, stride, stride, **look))


def _explain(figure: "Figure", attention: Attention, window: Window, more: str = "") -> None:
    low, high = window_range(window)
    along = (
        "Distances are along the patient from the key slice: - to the head, + to the feet."
        if attention.interval
        else "The distance of the slices is not known, so all of them are the key slice."
    )
    text = (
        f"Slices from {low:g} HU (black) to {high:g} HU (white). White box: the lesion.{more}\n"
        f"{along}"
    )
    figure.supxlabel(text, fontsize=10)
