"""The FROC curves of a table. Needs matplotlib, from ``lesionkit[detect]``."""

import os
from collections.abc import Sequence

from lesionkit.files import atomic_write
from lesionkit.tables.lines import Line
from lesionkit.tables.measured import CURVE_FP

MARKS = {(False, False): "o", (True, False): "^", (False, True): "v", (True, True): "s"}


def draw_curves(path: str | os.PathLike, lines: Sequence[Line], title: str) -> None:
    """Mean curves over the seeds, bars for the 95 % intervals, crosses for the paper's figures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, line in enumerate(lines):
        if line.measured is None:
            continue
        colour, variant = f"C{number}", line.variant
        axes.plot(CURVE_FP, 100 * line.measured.curve, color=colour, linewidth=1)
        beside = 2 ** (0.06 * (number - len(lines) / 2))  # so that no bar hides another
        middle = 100 * line.measured.sensitivity[:-1]
        low, high = 100 * line.measured.interval[:, :-1]
        axes.errorbar(
            [rate * beside for rate in line.fp_per_image],
            middle,
            (middle - low, high - middle),
            color=colour,
            marker=MARKS[variant.contextual, variant.spatial],
            linestyle="",
            markersize=4,
            capsize=2,
            label=f"{variant.name}, {variant.slices} slices",
        )
        if line.paper:
            rates = [rate * beside for rate in line.paper]
            axes.plot(rates, line.paper.values(), "x", color=colour, alpha=0.6)
    axes.plot([], [], "kx", alpha=0.6, label="on DeepLesion, as published")
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks := (0.125, 0.25, 0.5, 1, 2, 4, 8, 16), [f"{tick:g}" for tick in ticks])
    axes.set(
        xlabel="false positives per image", ylabel="sensitivity (%)", title=title, ylim=(0, 100)
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=100)
