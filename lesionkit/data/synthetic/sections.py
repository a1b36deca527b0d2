"""Bumpy ellipses and how they are painted into an axial plane: the brush of synthetic CT."""

import math
from typing import NamedTuple

import numpy as np


class Axis(NamedTuple):
    """Evenly spaced pixel centres (mm) along x or y. The plain numbers are there for speed."""

    first: float
    step: float
    size: int
    points: np.ndarray  # [size] float32


def make_axis(first: float, step: float, size: int) -> Axis:
    points = np.float32(first) + np.float32(step) * np.arange(size, dtype=np.float32)
    return Axis(float(first), float(step), size, points)


class Section(NamedTuple):
    """A bumpy ellipse of one axial plane: centre, half axes (mm), HU and how its edge runs."""

    x: float
    y: float
    rx: float
    ry: float
    hu: float
    tissue: int = 0  # what a label plane shows there; 0 leaves it as it is
    angle: float = 0.0  # radians, from x towards y
    wobble: float = 0.0  # relative amplitude of the harmonics of the outline
    phase: float = 0.0  # of the harmonics
    boxy: float = 0.0  # 0: ellipse; towards 1: rectangle with round corners
    shell: float = 0.0  # mm of its edge that have another HU: skin, cortical bone, wall of bowel
    shell_hu: float = 0.0

    def outline(self, angles: np.ndarray) -> np.ndarray:
        """[n, 2] points (mm) of the edge at the given angles; exact for ``boxy = 0``."""
        reach = 1.0 + self.wobble * (
            np.cos(2 * angles + self.phase) + 0.7 * np.cos(3 * angles - 1.7 * self.phase)
        )
        u, v = self.rx * reach * np.cos(angles), self.ry * reach * np.sin(angles)
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return np.stack([self.x + u * cos - v * sin, self.y + u * sin + v * cos], axis=1)


def paint(plane: np.ndarray, section: Section, xs: Axis, ys: Axis, edge: float) -> None:
    """Blend a section's HU into ``plane`` [h, w], in place, with an edge ``edge`` mm wide."""
    rows, columns, depth = _depth(section, xs, ys, edge)
    depth *= np.float32(1 / edge)
    depth += np.float32(0.5)
    share = np.minimum(np.maximum(depth, 0), 1)
    window = plane[rows, columns]
    if section.shell:
        window += share * (np.float32(section.shell_hu) - window)
        depth -= np.float32(section.shell / edge)
        share = np.minimum(np.maximum(depth, 0, out=depth), 1, out=depth)
    window += share * (np.float32(section.hu) - window)


def paint_label(plane: np.ndarray, section: Section, xs: Axis, ys: Axis) -> None:
    """Write a section's tissue into ``plane`` [h, w] (uint8), in place; a shell is no tissue."""
    rows, columns, depth = _depth(section, xs, ys, 0.0)
    window = plane[rows, columns]
    if section.shell:
        window[depth > 0] = 0
    window[depth > section.shell] = section.tissue


def _depth(section: Section, xs: Axis, ys: Axis, margin: float) -> tuple[slice, slice, np.ndarray]:
    """How deep pixels lie in a section: rows, columns and mm [rows, columns], negative outside.

    The window is the smallest around the section and ``margin`` mm more. Depth is exact along the
    short axis, and too small by the ratio of the axes along the long one.
    """
    x, y, rx, ry, _, _, angle, wobble, phase, boxy, _, _ = section
    cos, sin = math.cos(angle), math.sin(angle)
    grow = (1.0 + 1.7 * wobble) * (1.0 + 0.3 * boxy)
    columns = _window(xs, x, math.hypot(rx * cos, ry * sin) * grow + margin)
    rows = _window(ys, y, math.hypot(rx * sin, ry * cos) * grow + margin)
    u, v = xs.points[columns] - np.float32(x), ys.points[rows, None] - np.float32(y)
    if angle:
        u, v = u * np.float32(cos) + v * np.float32(sin), v * np.float32(cos) - u * np.float32(sin)
    u, v = u * np.float32(1 / rx), v * np.float32(1 / ry)
    uu, vv = u * u, v * v
    square = uu + vv
    if boxy:
        square -= (np.float32(boxy) * uu) * vv
    radius = np.sqrt(square)
    if wobble:
        # Harmonics by the addition theorems: far cheaper than arctan2 and two cosines.
        inverse = 1 / np.maximum(radius, np.float32(1e-3))
        c, s = u * inverse, v * inverse
        c2, s2 = c * c - s * s, (c + c) * s
        second, third, high = phase, -1.7 * phase, 0.7 * wobble
        # cos(3a + t) = c2 (c cos t - s sin t) - s2 (s cos t + c sin t), with a the polar angle
        ct, st = np.float32(high * math.cos(third)), np.float32(high * math.sin(third))
        radius -= c2 * (c * ct - s * st + np.float32(wobble * math.cos(second)))
        radius += s2 * (s * ct + c * st + np.float32(wobble * math.sin(second)))
    short = np.float32(min(rx, ry))
    radius *= -short
    radius += short
    return rows, columns, radius


def _window(axis: Axis, middle: float, reach: float) -> slice:
    start = math.ceil((middle - reach - axis.first) / axis.step)
    stop = math.floor((middle + reach - axis.first) / axis.step) + 1
    return slice(min(max(start, 0), axis.size), min(max(stop, 0), axis.size))
