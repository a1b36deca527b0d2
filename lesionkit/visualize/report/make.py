"""Pages of what detect, eval, demo and train have written."""

from typing import TYPE_CHECKING

from lesionkit.errors import InputError
from lesionkit.visualize.report.dataset import dataset_page
from lesionkit.visualize.report.options import Progress, ReportOptions
from lesionkit.visualize.report.page import render
from lesionkit.visualize.report.scan import scan_page
from lesionkit.visualize.report.training import training_page
from lesionkit.visualize.results import Run, open_dataset, open_scan, own_weights

if TYPE_CHECKING:
    from lesionkit.models import LesionDetector


def make_report(run: Run, options: ReportOptions, progress: Progress | None = None) -> str:
    """The page of a run as HTML.

    Raises InputError for a run of another verb, and where its files or its slices are missing.
    """
    if run.command == "train":
        page = training_page(run)
    elif run.command in ("eval", "demo"):
        found = open_dataset(run, options.data)
        page = dataset_page(run, found, options, _model(run, options), progress)
    elif run.command == "detect":
        found = open_scan(run, options.scan)
        page = scan_page(run, found, options, _model(run, options), progress)
    else:
        raise InputError(
            f"{run.folder}: was written by lesionkit {run.command}; give a result folder of "
            "detect, eval, demo or train"
        )
    return render(page, options.side, options.window)


def _model(run: Run, options: ReportOptions) -> "LesionDetector | None":
    """The detector for panels of attention; None without weights, attention or wish."""
    from lesionkit.models import load_detector

    path = own_weights(run, options.weights) if options.attention else None
    if path is None:
        return None
    model = load_detector(path, options.device)
    return model if model.config.contextual or model.config.spatial else None
