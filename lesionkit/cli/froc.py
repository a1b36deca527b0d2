"""``lesionkit froc``: the FROC of anyone's boxes."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionkit.cli.options import MAX_SEED, Overwrite, folder
from lesionkit.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from lesionkit.evaluation import Truth
    from lesionkit.evaluation.report import FrocOptions, FrocReport

SPLITS = ("train", "val", "test", "all")
WRITES = ("curve.csv", "froc.png", "results.json")
REPLICATES = 1000
MAX_REPLICATES = 1_000_000

Replicates = Annotated[
    int,
    typer.Option(
        "--replicates",
        min=0,
        max=MAX_REPLICATES,
        help="Resamples of the patients for 95 % confidence intervals; 0: none.",
    ),
]


def froc(
    detections: Annotated[
        Path,
        typer.Option(
            "--detections",
            help="detections.json of lesionkit eval, COCO results, or CSV with columns "
            "file_name,x1,y1,x2,y2,score.",
            show_default=False,
        ),
    ],
    truth: Annotated[
        Path,
        typer.Option(
            "--truth",
            help="DL_info.csv, COCO annotations, or CSV with columns file_name,x1,y1,x2,y2 and, if "
            "known, patient.",
            show_default=False,
        ),
    ],
    split: Annotated[
        str, typer.Option("--split", help="Of DL_info.csv: train, val, test or all.")
    ] = "test",
    split_file: Annotated[
        Path | None,
        typer.Option(
            "--split-file",
            help="CSV with patient or file_name, and split, in place of DL_info.csv's splits.",
        ),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            help="hold; 3dce: reads the curve as 3DCE's code; strict: one box a lesion, duplicates "
            "are false positives.",
        ),
    ] = "hold",
    overlap: Annotated[
        str,
        typer.Option("--overlap", help="iou, or iobb: intersection over the detected box."),
    ] = "iou",
    iou_threshold: Annotated[
        float, typer.Option("--iou-threshold", help="Least overlap of a hit.")
    ] = 0.5,
    fp_per_image: Annotated[
        str, typer.Option("--fp-per-image", help="False positives per image to report.")
    ] = "0.5,1,2,4,8,16",
    replicates: Replicates = REPLICATES,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MAX_SEED, help="Of --replicates.")] = 0,
    compare: Annotated[
        Path | None,
        typer.Option("--compare", help="Another run's detections: differences and p values."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", help="type, diameter or interval, may be repeated; for DL_info.csv."),
    ] = None,
    convention: Annotated[
        str,
        typer.Option(
            "--convention",
            help="Of --by. subset: the group's images; filter: all images, the group's lesions; "
            "threshold: one score threshold for all.",
        ),
    ] = "subset",
    axis: Annotated[
        str, typer.Option("--axis", help="Of --by diameter: long, short or mean.")
    ] = "long",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for results.json, curve.csv, froc.png.", parser=folder),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure detections against ground truth: sensitivity at false positives per image.

    Boxes are 0-based pixels whose last pixel belongs to them; COCO's x,y,width,height and
    DL_info.csv's own count are converted. Formats are told by content. An image without
    detections may be absent from the detections, but not from the truth; 000001_01_01/109.png
    is DL_info.csv's 000001_01_01_109.png.
    """
    from lesionkit.cli.output import check_output, result_folder
    from lesionkit.cli.progress import progress
    from lesionkit.evaluation import read_detections, read_truth
    from lesionkit.evaluation.report import FrocOptions, report_froc

    options = FrocOptions(
        fp_per_image=_rates(fp_per_image),
        iou_threshold=iou_threshold,
        mode=mode,
        overlap=overlap,
        replicates=replicates,
        seed=seed,
        by=tuple(dict.fromkeys(by or ())),
        convention=convention,
        axis=axis,
    )
    check_options(options)
    _choose("--split", split, SPLITS)
    if compare is not None and not replicates:
        raise InputError("--compare needs --replicates, at least 1")
    if out is not None:
        check_output(out, overwrite, "froc", WRITES)
    with progress("reading"):
        known = read_truth(truth, split, split_file)
        if options.by and known.records is None:
            raise InputError(
                f"--by: {truth} has no types, diameters and intervals; DL_info.csv has"
            )
        found = read_detections(detections, known)
        other = None if compare is None else read_detections(compare, known)
    _warn_of_rows_twice(known)
    for path, boxes in ((detections, found), (compare, other)):
        if path is not None:
            _warn_of_other_places(path, boxes, known)
    with progress("measuring") as update:
        report = report_froc(
            found, known.boxes, options, known.patients, known.records, other, update
        )
    if out is not None:
        files = {
            "detections": detections,
            "truth": truth,
            "compare": compare,
            "split_file": split_file,
        }
        arguments = {
            **{name: str(path) for name, path in files.items() if path},
            "split": known.split,
            **options.__dict__,
        }
        with result_folder(
            out, overwrite, {"command": "froc", "arguments": arguments}, WRITES
        ) as to:
            write_report(to, report, *_labels(detections, compare))
    print(report)


def check_options(options: "FrocOptions") -> None:
    """Raise InputError for a choice that is none."""
    from lesionkit.data.deeplesion import DIAMETER_AXES
    from lesionkit.evaluation.boxes import OVERLAPS
    from lesionkit.evaluation.groups import CONVENTIONS, GROUPINGS
    from lesionkit.evaluation.matching import MODES

    if not 0 < options.iou_threshold <= 1:
        raise InputError(f"--iou-threshold {options.iou_threshold}: must be above 0, at most 1")
    _choose("--mode", options.mode, MODES)
    _choose("--overlap", options.overlap, OVERLAPS)
    _choose("--convention", options.convention, CONVENTIONS)
    _choose("--axis", options.axis, DIAMETER_AXES)
    for by in options.by:
        _choose("--by", by, GROUPINGS)


def write_report(folder: Path, report: "FrocReport", label: str, other: str | None = None) -> None:
    """results.json, curve.csv and froc.png; the labels name the curves."""
    from lesionkit.evaluation import plot_froc
    from lesionkit.evaluation.report import write_curve

    text = json.dumps(report.to_dict(), indent=1)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    write_curve(folder / "curve.csv", report.result)
    curves = {label: report.result} | ({other: report.other} if other else {})
    plot_froc(folder / "froc.png", curves, {label: report.intervals} if report.intervals else None)


def _warn_of_rows_twice(known: "Truth") -> None:
    """Say where DL_info.csv has a box twice; a file of one's own would have been refused."""
    import numpy as np

    more = sum(len(boxes) - len(np.unique(boxes, axis=0)) for boxes in known.boxes)
    if more:
        print(
            f"{known.path}: {more} of {sum(map(len, known.boxes))} boxes repeat an earlier one and "
            "count again; lesionkit data check names them",
            file=sys.stderr,
        )


def _warn_of_other_places(path: Path, found: "list[np.ndarray]", known: "Truth") -> None:
    """Say so where hardly an image's best box so much as touches a lesion.

    On DeepLesion's test images the best boxes of a good detector (MULAN) do on 76 %; on 1 to 8 %
    if they are halved, doubled, taken as another format's, of another frame or of other images.
    """
    import numpy as np

    from lesionkit.evaluation import DetectionStatus, match_detections

    both = [
        (boxes[[boxes[:, 4].argmax()]], lesions)
        for boxes, lesions in zip(found, known.boxes, strict=True)
        if len(boxes) and len(lesions)
    ]
    if not both:
        return
    statuses = np.concatenate(match_detections(*zip(*both, strict=True), iou_threshold=1e-300))
    touched = int((statuses != DetectionStatus.FALSE_POSITIVE).sum())
    if touched < len(both) / 10:
        print(
            f"{path}: the best box touches a lesion on {touched} of the {len(both)} images that "
            f"have both; are boxes x1, y1, x2, y2 in pixels of the images of {known.path}?",
            file=sys.stderr,
        )


def _choose(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{option} {value}: must be one of {', '.join(allowed)}")


def _rates(text: str) -> tuple[float, ...]:
    try:
        rates = tuple(float(part) for part in text.split(","))
    except ValueError:
        rates = ()
    if not rates or not all(0 <= rate < 1e9 for rate in rates):
        raise InputError(
            f"--fp-per-image {text}: must be numbers >= 0 with commas, such as 0.5,1,2"
        )
    return rates


def _labels(detections: Path, compare: Path | None) -> tuple[str, str | None]:
    """The files' names, or their paths where those are the same."""
    if compare is None:
        return detections.name, None
    if detections.name != compare.name:
        return detections.name, compare.name
    return str(detections), f"{compare} " if compare == detections else str(compare)
