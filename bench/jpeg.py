"""Real pixels: a detector learns 40 of the 45 JPEG key slices: ``python -m bench.jpeg FOLDER``.

FOLDER holds ``NAME_NNN.jpg`` and ``NAME_NNN.tru`` files (see ``lesionkit data convert --help``).
The network `tiny` with one image a sample is trained on all but five of them from random weights,
in a few minutes on one core. Writes ``bench/results/deeplesion_jpeg.md``.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bench.measure import machine
from lesionkit.data import DeepLesion
from lesionkit.data.deeplesion.jpeg import convert_jpeg
from lesionkit.evaluation import FrocResult, froc
from lesionkit.files import atomic_write
from lesionkit.inference import evaluate_dataset
from lesionkit.models import PRESETS, DetectorConfig, load_detector
from lesionkit.training import TRAINING_PRESETS, TrainingConfig, deeplesion_samples, train

RESULT = Path(__file__).parent / "results" / "deeplesion_jpeg.md"
HELD_OUT = 5
FALSE_POSITIVES = (0.5, 1, 2, 4, 8)


def configs(seed: int, epochs: int) -> tuple[DetectorConfig, TrainingConfig]:
    tiny = PRESETS["tiny"]
    preprocessing = replace(tiny.preprocessing, num_images=1, pixel_spacing=1.6, max_size=256)
    # One image has no context to attend to.
    detector = replace(tiny, preprocessing=preprocessing, contextual=False)
    training = replace(TRAINING_PRESETS["tiny"], epochs=epochs, seed=seed, validate_every=epochs)
    return detector, training


def markdown(results: dict[str, FrocResult], facts: dict[str, object]) -> str:
    lines = [
        "# A detector on real key slices",
        "",
        f"`{facts['command']}`",
        "",
        *(f"- {name}: {value}" for name, value in facts.items() if name != "command"),
        "",
        "| images | lesions | " + " | ".join(f"{fp:g} FP" for fp in FALSE_POSITIVES) + " |",
        "|---|---|" + "---|" * len(FALSE_POSITIVES),
    ]
    for name, result in results.items():
        cells = " | ".join(f"{100 * value:.1f} %" for value in result.sensitivity)
        lines.append(f"| {result.num_images} {name} | {result.num_lesions} | {cells} |")
    lines += [
        "",
        "Sensitivity at false positives per image, IoU at least 0.5, on the key slices' marked",
        "lesions. The training images say that pixels, boxes, training and evaluation belong",
        "together, and nothing about accuracy. So few held-out images say nothing either: one",
        "lesion is a fifth of the figure.",
        "",
        "The images are DeepLesion's (Yan et al. 2018) as 8-bit JPEG files: HU in steps of 16, no",
        "neighbouring slices, pixel spacing unknown and taken as 0.8 mm. DeepLesion marks some of",
        "the lesions of a slice, so a false positive may be one. Several images are of one patient",
        "and resemble each other; those held out are of patients that were not trained on.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--seed", type=int, default=23)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    detector, training = configs(options.seed, options.epochs)
    torch.set_num_threads(1)  # the small network's maps hardly fill two

    with tempfile.TemporaryDirectory() as work:
        counts = convert_jpeg(options.folder, Path(work) / "data", test=HELD_OUT, seed=options.seed)
        sets = {name: DeepLesion(Path(work) / "data", split=name) for name in counts}
        samples = deeplesion_samples(sets["train"], detector.preprocessing)
        samples.preload(training.cache_gib * 2**30)
        start, start_cpu = time.perf_counter(), time.process_time()
        trained = train(
            detector,
            samples,
            Path(work) / "run",
            training,
            device="cpu",
            progress=lambda done, total, note: print(
                f"\r{done}/{total} {note}   ", end="", flush=True
            ),
        )
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        losses = (Path(work) / "run" / "metrics.jsonl").read_text().splitlines()
        model = load_detector(trained.weights)
        results = {}
        for name, dataset in sets.items():
            found = evaluate_dataset(model, dataset)
            results[name] = froc(found, [record.boxes for record in dataset], FALSE_POSITIVES)
    print()
    patients = {
        name: np.unique(dataset.lesions.column("patient")).tolist()
        for name, dataset in sets.items()
    }
    facts = {
        "command": shlex.join(["python", "-m", "bench.jpeg", *sys.argv[1:]]),
        **machine("cpu"),
        "patients": "; ".join(f"{name} {numbers}" for name, numbers in patients.items()),
        "detector": f"tiny, 1 image, {detector.preprocessing}, no contextual attention",
        "training": f"{training.epochs} epochs in {cpu:.0f} s of one core ({seconds:.0f} s beside "
        f"other work), seed {training.seed}",
        "last epoch": json.loads(losses[-1]),
    }
    text = markdown(results, facts)
    with atomic_write(options.out) as path:
        path.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
