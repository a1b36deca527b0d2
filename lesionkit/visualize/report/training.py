"""The page of a training run."""

import json
from collections.abc import Mapping

import matplotlib.figure
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lesionkit.errors import InputError
from lesionkit.visualize.report.page import Figure, Page, Table
from lesionkit.visualize.report.panels import to_png
from lesionkit.visualize.results import Run

METRICS = "metrics.jsonl"
_QUALITY = "validation_sensitivity"
_STYLES = ("-", "--", "-.", ":")


def training_page(run: Run) -> Page:
    """Losses and validation of ``lesionkit train``, epoch by epoch.

    Raises InputError unless there is a line of metrics.
    """
    lines = _read(run)
    losses = [name for name in lines[0] if name.startswith("loss")]
    arguments, last = run.config["arguments"], lines[-1]
    checked = [line for line in lines if _QUALITY in line]
    facts = [
        ("preset", str(arguments.get("preset"))),
        ("data", str(arguments.get("data") or arguments.get("scan"))),
        ("epochs", f"{last['epoch']}"),
        ("steps", f"{last['step']}"),
    ]
    if checked:
        best = max(checked, key=lambda line: line[_QUALITY])
        value = f"{100 * best[_QUALITY]:.1f} % (epoch {best['epoch']})"
        facts.append(("best validation sensitivity at 4 false positives an image", value))
    header = ["epoch", "step", *losses, *([_QUALITY] if checked else [])]
    rows = [
        [f"{line['epoch']}", f"{line['step']}", *(f"{line[name]:.4f}" for name in losses)]
        + ([f"{line[_QUALITY]:.3f}" if _QUALITY in line else ""] if checked else [])
        for line in lines
    ]
    return Page(
        title=f"lesionkit train: {run.folder.name}",
        facts=facts,
        notes=["Slices and boxes: run lesionkit eval with these weights, and report that."],
        parts=[
            _plot(lines, losses, checked),
            Table("Epochs", [name.replace("_", " ") for name in header], rows),
        ],
        settings=dict(run.config),
    )


def _read(run: Run) -> list[Mapping[str, float]]:
    path = run.folder / METRICS
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if lines and all({"epoch", "step"} <= set(line) for line in lines):
            return lines
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give the folder of a training") from None
    except (TypeError, ValueError):
        pass
    raise InputError(f"{path}: holds no metrics of epochs; give the folder of a training")


def _plot(lines: list, losses: list[str], checked: list) -> Figure:
    figure = matplotlib.figure.Figure(figsize=(11, 4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)  # not pyplot, which may look for a display
    panels = figure.subplots(1, 2 if checked else 1, squeeze=False)[0]
    for number, name in enumerate(losses):
        x = [line["epoch"] for line in lines]
        y = [line[name] for line in lines]
        label = name.removeprefix("loss_").replace("_", " ")
        panels[0].plot(x, y, _STYLES[number % 4], marker=".", label=label)
    panels[0].set_yscale("log")
    panels[0].set_ylabel("loss")
    panels[0].legend()
    if checked:
        x = [line["epoch"] for line in checked]
        panels[1].plot(x, [100 * line[_QUALITY] for line in checked], marker="o")
        panels[1].set_ylim(0, 100)
        panels[1].set_ylabel("validation sensitivity in %\nat 4 false positives per image")
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.set_xlim(lines[0]["epoch"] - 0.5, lines[-1]["epoch"] + 0.5)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    text = "Losses of each epoch" + (
        ", and sensitivity on the validation split." if checked else "."
    )
    return Figure("Training", text, to_png(figure))
