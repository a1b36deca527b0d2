"""``lesionkit demo``: synthetic data, honest training, FROC and pictures in a few minutes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionkit.cli.options import (
    Device,
    Overwrite,
    Patients,
    Seed,
    choose_device,
    folder,
    limit_threads,
)

if TYPE_CHECKING:
    import numpy as np

    from lesionkit.data import DeepLesion
    from lesionkit.evaluation import FrocResult

PRESET = "tiny"
IMAGE_SIZE = 256  # pixels; half of DeepLesion's, a quarter of the time to draw and to read
WRITES = (
    *("data/DL_info.csv", "data/Images_png/*/*.png"),
    *("detections.json", "last.safetensors", "metrics.jsonl", "pictures.png", "results.json"),
    "weights.safetensors",
)
PICTURES = 9
PICTURE_FP = 1.0  # false positives per image at which detections are drawn


def demo(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the results.", parser=folder)
    ] = Path("lesionkit-demo"),
    patients: Patients = 72,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """See it work: make synthetic CT, train a small detector, and test it on held-out patients.

    Takes about three minutes on two CPU cores. Writes the data, the weights, results.json with
    the sensitivity at 0.5 to 16 false positives per image, and pictures (ground truth blue, true
    positive green, false positive red).
    """
    from dataclasses import replace

    from lesionkit.cli.output import result_folder
    from lesionkit.cli.progress import progress
    from lesionkit.data import DeepLesion, synthesize
    from lesionkit.evaluation import froc, write_detections
    from lesionkit.inference import evaluate_dataset
    from lesionkit.models import PRESETS, load_detector
    from lesionkit.training import TRAINING_PRESETS, deeplesion_samples, train

    chosen = choose_device(device)
    detector = PRESETS[PRESET]
    training = replace(TRAINING_PRESETS[PRESET], seed=seed, tensorboard=False)
    limit_threads(detector.backbone)
    config = {
        "command": "demo",
        "arguments": {"patients": patients, "seed": seed, "device": device},
        "detector": detector.to_dict(),
        "training": training.to_dict(),
    }
    with result_folder(out, overwrite, config, WRITES) as folder:
        data = folder / "data"
        with progress("1/4 synthetic CT") as update:
            synthesize(data, patients, seed, IMAGE_SIZE, progress=update)
        splits = {split: DeepLesion(data, split=split) for split in ("train", "val", "test")}
        with progress("2/4 preparing samples") as update:
            samples = {
                split: deeplesion_samples(splits[split], detector.preprocessing)
                for split in ("train", "val")
            }
            for part in samples.values():
                part.preload(training.cache_gib * 2**30, update)
        with progress("3/4 training") as update:
            result = train(
                PRESET, samples["train"], folder, training, samples["val"], chosen, update
            )
        model = load_detector(result.weights, chosen)
        with progress("4/4 testing on held-out patients") as update:
            found = evaluate_dataset(model, splits["test"], update)
        measured = froc(found, [record.boxes for record in splits["test"]])
        names = [record.file_name for record in splits["test"]]
        write_detections(folder / "detections.json", names, found)
        _write_results(folder / "results.json", splits, measured)
        _draw(folder / "pictures.png", splits["test"], found, measured)
    print(f"Held-out synthetic patients: {_patients(splits['test'])} of {patients}.")
    print(measured)
    print(f"Pictures: {out / 'pictures.png'}. Weights: {out / result.weights.name}.")


def _patients(dataset: "DeepLesion") -> int:
    return len({record.patient for record in dataset})


def _write_results(path: Path, splits: "dict[str, DeepLesion]", measured: "FrocResult") -> None:
    results = {
        "data": "synthetic; says nothing about accuracy on patients",
        "patients": {split: _patients(part) for split, part in splits.items()},
        "images": {split: len(part) for split, part in splits.items()},
        "test_lesions": measured.num_lesions,
        "iou_threshold": measured.iou_threshold,
        "false_positives_per_image": measured.fp_per_image.tolist(),
        "sensitivity": measured.sensitivity.round(4).tolist(),
    }
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _draw(
    path: Path,
    dataset: "DeepLesion",
    found: "list[dict[str, np.ndarray]]",
    measured: "FrocResult",
) -> None:
    from lesionkit.visualize import draw_boxes, save_grid

    drawn = measured.curve_score[measured.curve_fp <= PICTURE_FP]
    least = float(drawn.min()) if len(drawn) else 1.0
    pictures = []
    for record, boxes in list(zip(dataset, found, strict=True))[:PICTURES]:
        keep = boxes["scores"] >= least
        hu = dataset.read_slice(record, record.key_slice).astype("float32") - 32768
        pictures.append(
            draw_boxes(
                hu,
                record.boxes,
                {name: value[keep] for name, value in boxes.items()},
                window=record.lesions[0].window,
                title=record.file_name,
            )
        )
    save_grid(path, pictures)
