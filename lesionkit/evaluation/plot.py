"""The FROC curve as a picture."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from lesionkit.evaluation.froc import FrocResult
from lesionkit.files import atomic_write

if TYPE_CHECKING:
    from lesionkit.evaluation.bootstrap import FrocIntervals

RANGE = (1 / 8, 16.0)  # false positives per image


def plot_froc(
    path: str | os.PathLike,
    results: Mapping[str, FrocResult],
    intervals: "Mapping[str, FrocIntervals] | None" = None,
    title: str | None = None,
) -> None:
    """Draw curves of sensitivity against false positives per image (logarithmic, 1/8 to 16).

    Args:
        path: a PNG file, or what its suffix says.
        results: label to what ``froc`` measured.
        intervals: label to intervals, drawn as bars at the rates they were computed at.
        title: above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not results:
        raise ValueError("results must hold at least one result")
    figure = Figure(figsize=(6.4, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)  # not pyplot, which may look for a display
    axes = figure.subplots()
    for number, (label, result) in enumerate(results.items()):
        colour = f"C{number}"
        x, y = _curve(result)
        axes.step(x, y, where="post", color=colour, label=f"{label} ({100 * result.mean:.1f})")
        shown = (result.fp_per_image >= RANGE[0]) & (result.fp_per_image <= RANGE[1])
        rates, values = result.fp_per_image[shown], 100 * result.sensitivity[shown]
        axes.plot(rates, values, ".", color=colour)
        if intervals and label in intervals:
            low, high = (100 * end[shown] for end in (intervals[label].low, intervals[label].high))
            errors = np.maximum([values - low, high - values], 0)
            axes.errorbar(rates, values, errors, fmt="none", color=colour, capsize=3, linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_xlim(*RANGE)
    axes.set_ylim(0, 100)
    ticks = 2.0 ** np.arange(-3, 5)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlabel("false positives per image")
    axes.set_ylabel("sensitivity in %")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", title="mean at 0.5, 1, 2 and 4")
    if title:
        axes.set_title(title)
    with atomic_write(path) as temporary:
        figure.savefig(temporary)


def _curve(result: FrocResult) -> tuple[np.ndarray, np.ndarray]:
    """The curve over all of the range, as steps in %: a curve holds its last sensitivity."""
    x, last = np.unique(result.curve_fp[::-1], return_index=True)  # of equal rates, the last
    y = result.curve_sensitivity[::-1][last]
    x, y = np.concatenate([[0], x]), np.concatenate([[0], y])
    inside = x <= RANGE[1]
    x, y = np.append(x[inside], RANGE[1]), np.append(y[inside], y[inside][-1])
    # A logarithmic axis has no zero: what is found before the range is at its left end.
    return np.maximum(x, RANGE[0]), 100 * y
