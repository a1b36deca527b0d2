"""What each rank does under torchrun in test_ranks.py; results go into the folder it is given.

The test calls the same functions in one process, to compare.
"""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from lesionkit.models import PRESETS, LesionDetector
from lesionkit.training import TRAINING_PRESETS, Samples, loop, scan_samples, train
from lesionkit.training.distributed import rank, ranks, start
from lesionkit.training.order import rank_batches, sampling_seed
from lesionkit.training.step import make_optimizer, training_step

from .scans import BALL_BOX, ball_scan

CONFIG = replace(
    TRAINING_PRESETS["tiny"],
    optimizer="sgd",
    learning_rate=1e-3,
    batch_size=4,
    epochs=2,
    validate_every=1,
    shift=4,
    gradient_clip=1e9,
)


def uneven_samples(count):
    """Samples of different sizes, some without a lesion."""
    marked = dict.fromkeys(range(count), BALL_BOX)
    prepared = scan_samples(ball_scan(), marked, PRESETS["tiny"].preprocessing)
    made = []
    for index in range(count):
        sample = prepared[index]
        images = F.pad(sample.images, (0, 4 * (index % 3), 0, 8 * (index % 2)))
        boxes = sample.boxes[: index % 4]
        made.append(replace(sample, images=images, boxes=boxes))
    return Samples(count, made.__getitem__)


def gradients():
    """Of one step on a batch of four, of which this rank has its part; and the losses."""
    torch.manual_seed(0)
    # More boxes than a sample has, so that the ranks' counts differ.
    model = LesionDetector(replace(PRESETS["tiny"], rpn_batch=2048, roi_batch=512))
    fabric = start("cpu", "32-true")
    wrapped = fabric.setup(model, make_optimizer(model, CONFIG))
    samples = uneven_samples(4)
    (batch,) = rank_batches([[3, 1, 2, 0]], rank(), ranks())
    seeds = [sampling_seed(5, 1, index) for index in batch]
    values = training_step(fabric, *wrapped, [samples[i] for i in batch], seeds, CONFIG)
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    return found | {name: torch.tensor(value) for name, value in values.items()}


def froc():
    """The curve of an untrained detector on five samples."""
    torch.manual_seed(0)
    result = loop.validate(LesionDetector("tiny"), uneven_samples(5))
    return {
        "curve_score": torch.from_numpy(result.curve_score),
        "curve_fp": torch.from_numpy(result.curve_fp),
        "curve_sensitivity": torch.from_numpy(result.curve_sensitivity),
        "sensitivity": torch.from_numpy(result.sensitivity),
    }


def training(out):
    samples = uneven_samples(9)
    return train("tiny", samples, out, CONFIG, uneven_samples(5), "cpu")


def die(out):
    """Train on and on; rank 1 is killed in its third step."""
    steps = []

    def step(*arguments):
        steps.append(arguments)
        if rank() == 1 and len(steps) == 3:
            (out / "killed").write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)
        return training_step(*arguments)

    loop.training_step = step
    config = replace(CONFIG, epochs=10000, checkpoint_every=0, tensorboard=False)
    train("tiny", uneven_samples(9), out / "die", config, None, "cpu")


def main(out):
    torch.set_num_threads(1)
    for name, values in (("gradients", gradients()), ("froc", froc())):
        save_file(values, out / f"{name}-{rank()}.safetensors")
    # Only rank 0's folder is used: another one has another name here.
    training(out / f"trained-{rank()}")
    die(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
