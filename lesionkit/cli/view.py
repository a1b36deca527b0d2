"""``lesionkit view``: the paper's figures, of any detector and scan."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionkit.cli.options import (
    Device,
    Out,
    Overwrite,
    check_outside,
    choose_device,
    limit_threads,
)
from lesionkit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lesionkit.data import CTVolume
    from lesionkit.models import LesionDetector
    from lesionkit.visualize.attention import Attention

ATTENTION_WRITES = ("contextual-*.png", "spatial.png")
DETECTIONS_WRITES = ("detections.png",)
PICTURES = 9

app = typer.Typer(
    name="view",
    help="Pictures: what attention weighs, and what was found.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Window = Annotated[
    str | None,
    typer.Option(
        "--window",
        help="lung (-1350 to 150 HU), soft-tissue (-150 to 250), bone (-500 to 1300), or "
        "LOW,HIGH. [default: the one in DL_info.csv, else soft-tissue]",
    ),
]
Scan = Annotated[Path | None, typer.Option("--scan", help="A CT scan, as lesionkit detect takes.")]


@app.command()
def attention(
    weights: Annotated[
        Path, typer.Option("--weights", help="A detector's .safetensors file.", show_default=False)
    ],
    out: Out,
    data: Annotated[
        Path | None, typer.Option("--data", help="A DeepLesion folder, with --image.")
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", help="File_name of an image of it.")
    ] = None,
    scan: Scan = None,
    series: Annotated[
        str | None, typer.Option("--series", help="Which series of a folder with several.")
    ] = None,
    slice_: Annotated[
        int | None, typer.Option("--slice", help="The key slice of --scan, counted from 0.")
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(
            "--box",
            help="The lesion as x1,y1,x2,y2: 0-based pixels, ends included. [default: those in "
            "DL_info.csv; of a scan, the best detection on the slice]",
        ),
    ] = None,
    window: Window = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Draw the attention weights of one image or slice, as Fig. 2 and 3 of Tao et al. 2019.

    Writes contextual-1.png for the first lesion and so on (the weights of the neighbouring images
    on its grid cells) and spatial.png (the maps of all images), as far as the detector has them.
    """
    from lesionkit.cli.output import check_output, result_folder
    from lesionkit.models import load_detector
    from lesionkit.visualize.attention import check_attention, draw_contextual, draw_spatial

    check_output(out, overwrite, "view attention", ATTENTION_WRITES)
    if (data is None) == (scan is None) or (data and not image) or (scan and slice_ is None):
        raise InputError("give either --data with --image, or --scan with --slice")
    boxes = [_parse_box(box)] if box else []
    shown = parse_window_option(window)
    model = load_detector(weights, choose_device(device))
    check_attention(model, f"--weights {weights}")
    limit_threads(model.config.backbone)
    if data:
        found, boxes, own = _of_record(model, data, image, boxes)
    else:
        check_outside(out, scan)
        found, boxes = _of_scan(model, scan, series, slice_, boxes)
        own = None
    arguments = plain(
        weights=weights, data=data, image=image, scan=scan, series=series, slice=slice_, box=box,
        window=window, device=device,
    )  # fmt: skip
    config = {"command": "view attention", "arguments": arguments}
    config["detector"] = model.config.to_dict()
    shown = shown or own or "soft tissue"
    with result_folder(out, overwrite, config, ATTENTION_WRITES) as folder:
        written = []
        if "contextual" in found.weights:
            for number, lesion in enumerate(boxes, 1):
                written.append(f"contextual-{number}.png")
                draw_contextual(found, lesion, shown).savefig(folder / written[-1])
        if "spatial" in found.weights:
            written.append("spatial.png")
            draw_spatial(found, boxes, shown).savefig(folder / "spatial.png")
    print("\n".join(str(out / name) for name in written))


@app.command()
def detections(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS",
            help="A result folder of detect, eval or demo, or a DeepLesion folder.",
        ),
    ],
    out: Out,
    data: Annotated[
        Path | None, typer.Option("--data", help="The data set, where it has moved.")
    ] = None,
    scan: Annotated[
        Path | None, typer.Option("--scan", help="The scan, where it has moved.")
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option("--image", help="File_name of an image; may be repeated.")
    ] = None,
    slice_: Annotated[
        list[int] | None, typer.Option("--slice", help="A slice of a scan; may be repeated.")
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option("--boxes", help="A scan's true boxes: CSV with columns slice,x1,y1,x2,y2."),
    ] = None,
    score_threshold: Annotated[
        float | None,
        typer.Option(
            "--score-threshold",
            help="Least score of a box. [default: 1 false positive an image; of a scan, all]",
        ),
    ] = None,
    pictures: Annotated[
        int, typer.Option("--pictures", min=1, max=100, help="Most pictures to draw.")
    ] = PICTURES,
    window: Window = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw boxes on slices, as Fig. 4 and 5 of Tao et al. 2019, into detections.png.

    Ground truth is dashed blue, hits are solid green, false positives dotted red; where the truth
    is not known, boxes are yellow. Without --image or --slice, a data set's first images are drawn
    and a scan's slices with the best boxes.
    """
    from lesionkit.cli.output import check_output, result_folder
    from lesionkit.data import DeepLesion
    from lesionkit.training import read_boxes
    from lesionkit.visualize import save_grid
    from lesionkit.visualize.detections import COLUMNS, draw_images, draw_slices
    from lesionkit.visualize.results import (
        DatasetRun,
        find_image,
        open_dataset,
        open_scan,
        read_run,
    )

    check_output(out, overwrite, "view detections", DETECTIONS_WRITES)
    shown = parse_window_option(window)
    if (results / "DL_info.csv").is_file():
        found = DatasetRun(DeepLesion(results), None, None)
    else:
        run = read_run(results)
        found = open_scan(run, scan) if run.command == "detect" else open_dataset(run, data)
    if isinstance(found, DatasetRun):
        chosen = [find_image(found.dataset, name, "--image") for name in image or ()]
        drawn = draw_images(found, chosen, pictures, score_threshold, shown)
    else:
        check_outside(out, Path(found.volume.source))
        truth = read_boxes(boxes, found.volume) if boxes else None
        _check_slices(slice_ or (), found.volume)
        drawn = draw_slices(found, slice_ or (), pictures, truth, score_threshold, shown)
    arguments = plain(
        results=results, data=data, scan=scan, image=image, slice=slice_, boxes=boxes,
        score_threshold=score_threshold, pictures=pictures, window=window,
    )  # fmt: skip
    config = {"command": "view detections", "arguments": arguments}
    with result_folder(out, overwrite, config, DETECTIONS_WRITES) as folder:
        save_grid(folder / "detections.png", drawn, COLUMNS)
    print(f"{len(drawn)} pictures: {out / 'detections.png'}")


def _check_slices(numbers: "Iterable[int]", volume: "CTVolume") -> None:
    last = len(volume.hu) - 1
    for number in numbers:
        if not 0 <= number <= last:
            raise InputError(f"--slice {number}: the scan has slices 0..{last}")


def plain(**arguments: object) -> dict[str, object]:
    """Arguments as config.json keeps them."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in arguments.items()}


def parse_window_option(text: str | None) -> tuple[float, float] | None:
    from lesionkit.visualize.windows import parse_window

    try:
        return None if text is None else parse_window(text)
    except ValueError as error:
        raise InputError(f"--window {error}") from None


def _parse_box(text: str) -> tuple[float, ...]:
    try:
        x1, y1, x2, y2 = box = tuple(float(part) for part in text.split(","))
        if -1e5 < x1 <= x2 < 1e5 and -1e5 < y1 <= y2 < 1e5:
            return box
    except ValueError:
        pass
    raise InputError(f"--box {text}: must be x1,y1,x2,y2 in pixels with x1 <= x2 and y1 <= y2")


def _of_record(
    model: "LesionDetector", data: Path, image: str, boxes: list
) -> "tuple[Attention, list, tuple[float, float] | None]":
    """The attention on an image, its lesions, and its window where that is known."""
    from lesionkit.data import DeepLesion
    from lesionkit.visualize.attention import record_attention
    from lesionkit.visualize.results import find_image, own_window

    dataset = DeepLesion(data, drop_noisy=False)
    record = dataset[find_image(dataset, image, "--image")]
    boxes = boxes or [lesion.box for lesion in record.lesions]
    return record_attention(model, dataset, record), boxes, own_window(record)


def _of_scan(
    model: "LesionDetector", scan: Path, series: str | None, key: int, boxes: list
) -> "tuple[Attention, list]":
    """The attention on a slice of a scan; without ``boxes`` on the best detection there."""
    from lesionkit.data import read_ct
    from lesionkit.data.preprocess import prepare_volume_sample
    from lesionkit.inference import detect_sample
    from lesionkit.visualize.attention import scan_attention

    volume = read_ct(scan, series)
    _check_slices([key], volume)
    if not boxes:
        sample = prepare_volume_sample(volume, key, model.config.preprocessing)
        boxes = detect_sample(model, *sample, volume.source)["boxes"][:1].tolist()
    if not boxes:
        raise InputError(f"--slice {key}: the detector finds nothing there; name a --box")
    return scan_attention(model, volume, key), boxes
