"""Boxes drawn on CT slices: ground truth blue, true positive green, false positive red."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from lesionkit.evaluation.boxes import as_detections, as_truth
from lesionkit.evaluation.matching import DetectionStatus, match_detections
from lesionkit.files import atomic_write
from lesionkit.visualize.windows import Window, to_grey, window_range

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

Boxes = np.ndarray | torch.Tensor | Sequence
Detections = Boxes | Mapping[str, Boxes]

# Bright enough for black and for bone. Blue is light, since pure blue vanishes on a dark slice.
TRUTH = (80, 165, 255)
TRUE_POSITIVE = (70, 225, 90)
FALSE_POSITIVE = (255, 75, 75)
DETECTION = (255, 205, 50)
_DASHES = {TRUTH: (4, 3), FALSE_POSITIVE: (2, 2)}  # dash and gap in line widths; others are solid
_BACKGROUND = (0, 0, 0)
_TEXT = (235, 235, 235)
_GAP = 4  # pixels of the picture


def draw_boxes(
    hu_slice: np.ndarray,
    truth: Boxes | None = None,
    detections: Detections | None = None,
    *,
    iou_threshold: float = 0.5,
    window: Window = "soft tissue",
    scale: float = 2.0,
    title: str | None = None,
) -> "Image.Image":
    """One CT slice with its boxes, a title above it and a legend below it.

    Ground truth is dashed blue. A detection is solid green where its IoU with a lesion reaches
    ``iou_threshold`` (second boxes on the same lesion too) and dotted red elsewhere, with its score
    beside it; without ``truth`` nothing can be said about detections and all are yellow.

    Args:
        hu_slice: Hounsfield units [H, W].
        truth: boxes [g, 4] xyxy in pixels of the slice, inclusive ends; empty for a slice known
            to have no lesion, None where that is unknown.
        detections: [n, 5] with the score last, or a mapping with ``"boxes"`` [n, 4] and
            ``"scores"`` [n]; all of them are drawn, so leave out those of low score.
        window: ``"lung"``, ``"soft tissue"``, ``"bone"``, or (low, high) in HU.
        scale: pixels of the picture per pixel of the slice.

    Returns:
        An RGB picture, about H * scale high and W * scale wide.

    Raises:
        ValueError: an argument has a wrong shape or value; the message names it.
    """
    from PIL import Image, ImageDraw

    hu_slice = np.asarray(hu_slice)
    if hu_slice.ndim != 2 or hu_slice.size == 0:
        raise ValueError(f"hu_slice must have shape [H, W], got {list(hu_slice.shape)}")
    if not 0 < scale <= 64:
        raise ValueError(f"scale must be in (0, 64], got {scale}")
    shown = window_range(window)
    lesions = np.empty((0, 4)) if truth is None else as_truth(truth, "truth")
    found = np.empty((0, 5)) if detections is None else as_detections(detections, "detections")

    slice_picture = Image.fromarray(to_grey(hu_slice, shown))
    size = tuple(max(1, round(side * scale)) for side in slice_picture.size)
    slice_picture = slice_picture.resize(size, Image.Resampling.BICUBIC).convert("RGB")

    draw = ImageDraw.Draw(slice_picture)
    font = _font(max(size))
    line = max(math.ceil(0.75 * scale), round(max(size) / 256))
    colours = _detection_colours(truth, found, iou_threshold)
    frames = _frames(found, scale)
    for x1, y1, x2, y2 in (*frames, *_frames(lesions, scale)):  # seen on bone, below all colours
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=_BACKGROUND)
    for frame, colour in zip(frames, colours, strict=True):
        _outline(draw, frame, colour, line)
    for frame in _frames(lesions, scale):
        _outline(draw, frame, TRUTH, line)
    _write_scores(draw, frames, found[:, 4], colours, font, size)

    entries = [("ground truth", TRUTH)] if truth is not None else []
    if detections is not None:
        entries += (
            [("detection", DETECTION)]
            if truth is None
            else [("true positive", TRUE_POSITIVE), ("false positive", FALSE_POSITIVE)]
        )
    return _frame_picture(slice_picture, title, entries, font)


def save_overlay(path: str | os.PathLike, hu_slice: np.ndarray, *args, **kwargs) -> None:
    """:func:`draw_boxes`, written to ``path`` (PNG, or what its suffix says) in one step."""
    _save(draw_boxes(hu_slice, *args, **kwargs), path)


def save_grid(path: str | os.PathLike, pictures: "Sequence[Image.Image]", columns: int = 3) -> None:
    """Pictures side by side, row by row, each at the top left of a cell of the largest's size."""
    from PIL import Image

    if not pictures:
        raise ValueError("pictures must hold at least one picture")
    if columns < 1:
        raise ValueError(f"columns must be >= 1, got {columns}")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    width = max(picture.width for picture in pictures) + 2 * _GAP
    height = max(picture.height for picture in pictures) + 2 * _GAP
    grid = Image.new("RGB", (columns * width, rows * height), _BACKGROUND)
    for i, picture in enumerate(pictures):
        grid.paste(picture, (i % columns * width + _GAP, i // columns * height + _GAP))
    _save(grid, path)


def _detection_colours(
    truth: Boxes | None, found: np.ndarray, iou_threshold: float
) -> list[tuple[int, int, int]]:
    if truth is None:
        return [DETECTION] * len(found)
    (status,) = match_detections([found], [truth], iou_threshold)
    missed = status == DetectionStatus.FALSE_POSITIVE
    return [FALSE_POSITIVE if miss else TRUE_POSITIVE for miss in missed]


def _frames(boxes: np.ndarray, scale: float) -> list[tuple[int, int, int, int]]:
    """First and last picture pixel, both inclusive, of each box [n, >= 4] xyxy."""
    first = (boxes[:, :2] * scale).round()
    last = np.maximum(((boxes[:, 2:4] + 1) * scale).round() - 1, first)
    pixels = np.hstack([first, last]).clip(-100, 1e5)  # wild boxes: no huge loops, no overflow
    return [tuple(frame) for frame in pixels.astype(int).tolist()]


def _outline(
    draw: "ImageDraw.ImageDraw",
    frame: tuple[int, int, int, int],
    colour: tuple[int, int, int],
    line: int,
) -> None:
    """A rectangle in the line style of its colour: styles help those who see no such colours, and
    dashes over another box with nearly the same edges leave both to be seen.
    """
    x1, y1, x2, y2 = frame
    if colour not in _DASHES:
        draw.rectangle(frame, outline=colour, width=line)
        return
    dash, period = _DASHES[colour][0] * line, sum(_DASHES[colour]) * line
    for x in range(x1, x2 + 1, period):
        end = min(x + dash - 1, x2)
        draw.rectangle((x, y1, end, y1 + line - 1), fill=colour)
        draw.rectangle((x, y2 - line + 1, end, y2), fill=colour)
    for y in range(y1, y2 + 1, period):
        end = min(y + dash - 1, y2)
        draw.rectangle((x1, y, x1 + line - 1, end), fill=colour)
        draw.rectangle((x2 - line + 1, y, x2, end), fill=colour)


def _write_scores(
    draw: "ImageDraw.ImageDraw",
    frames: Sequence[tuple[int, int, int, int]],
    scores: Sequence[float],
    colours: Sequence[tuple[int, int, int]],
    font: object,
    size: tuple[int, int],
) -> None:
    """Write each score at the first place beside its box that is free of other scores."""
    taken: list[tuple[float, float, float, float]] = []
    for (x1, y1, x2, y2), score, colour in zip(frames, scores, colours, strict=True):
        if x1 >= size[0] or y1 >= size[1] or x2 < 0 or y2 < 0:
            continue  # not in the picture
        text = f"{score:.2f}"
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        width, height = right - left + 2, bottom - top + 2
        places = [(x1, y1 - height), (x1, y2 + 1), (x2 + 1, y1), (x1 - width, y1)]
        places += [(x2 + 1, y2 - height), (x1 - width, y2 - height)]
        spots = []
        for x, y in places:
            x = max(0, min(x, size[0] - width))
            y = max(0, min(y, size[1] - height))
            spots.append((x, y, x + width, y + height))
        spot = next((s for s in spots if not any(_overlap(s, t) for t in taken)), spots[0])
        taken.append(spot)
        draw.rectangle((spot[0], spot[1], spot[2] - 1, spot[3] - 1), fill=_BACKGROUND)
        draw.text((spot[0] + 1 - left, spot[1] + 1 - top), text, fill=colour, font=font)


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _frame_picture(
    picture: "Image.Image",
    title: str | None,
    entries: Sequence[tuple[str, tuple[int, int, int]]],
    font: object,
) -> "Image.Image":
    """The picture with its title above and its legend below, each broken into lines that fit."""
    from PIL import Image, ImageDraw

    ruler = ImageDraw.Draw(picture)
    line_height = round(ruler.textbbox((0, 0), "Ag", font=font)[3]) + _GAP
    swatch = line_height // 2

    def wrapped(items: Sequence[tuple[str, object]], extra: float) -> list[list[tuple]]:
        """Lines of (x, text, colour), as many items a line as the width holds."""
        lines: list[list[tuple]] = []
        x = float("inf")
        for text, colour in items:
            width = ruler.textlength(text, font=font) + extra
            if x + width > picture.width:
                lines.append([])
                x = _GAP
            lines[-1].append((x, text, colour))
            x += width
        return lines

    space = ruler.textlength(" ", font=font)
    above = wrapped([(word, _TEXT) for word in (title or "").split()], space)
    below = wrapped(entries, 2 * swatch + 5 * _GAP)
    widest = [x + ruler.textlength(text, font=font) for line in above for x, text, _ in line]
    label = 2 * swatch + 2 * _GAP  # where the text of an entry begins
    widest += [x + label + ruler.textlength(t, font=font) for line in below for x, t, _ in line]
    canvas = Image.new(
        "RGB",
        (
            max(picture.width, *(round(end) + _GAP for end in widest), 0),
            picture.height + line_height * (len(above) + len(below)),
        ),
        _BACKGROUND,
    )
    draw = ImageDraw.Draw(canvas)
    for row, line in enumerate(above):
        for x, text, colour in line:
            draw.text((x, row * line_height), text, fill=colour, font=font)
    top = len(above) * line_height
    canvas.paste(picture, (0, top))
    top += picture.height
    for row, line in enumerate(below):
        for x, text, colour in line:
            y = top + row * line_height
            frame = (round(x), y + swatch // 4, round(x) + 2 * swatch, y + swatch // 4 + swatch)
            _outline(draw, frame, colour, 2)
            draw.text((x + label, y), text, fill=_TEXT, font=font)
    return canvas


def _font(side: int):
    from PIL import ImageFont

    return ImageFont.load_default(min(max(side // 64, 12), 32))


def _save(picture: "Image.Image", path: str | os.PathLike) -> None:
    if Path(path).suffix == "":
        raise ValueError(f"path must end in .png or another image suffix, got {os.fspath(path)!r}")
    with atomic_write(path) as temporary:
        picture.save(temporary)
