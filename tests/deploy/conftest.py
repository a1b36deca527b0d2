"""A tiny detector with some training, samples for it, and its exported files."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lesionkit.data import CTVolume
from lesionkit.deploy import export_onnx
from lesionkit.models import PRESETS, load_detector
from lesionkit.training import TRAINING_PRESETS, Samples, scan_samples, train


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scan_with_a_ball(seed):
    """Noisy tissue with one bright ball, samples of which give 64 x 64 pixels; and its box."""
    random = np.random.default_rng(seed)
    radius = random.uniform(4, 10)
    x, y = random.uniform(radius + 2, 62 - radius, 2)
    zs, ys, xs = np.ogrid[:9, :64, :64]
    hu = random.normal(40, 25, (9, 64, 64))
    hu[(xs - x) ** 2 + (ys - y) ** 2 + (4 * (zs - 4)) ** 2 <= radius**2] += 250
    volume = CTVolume(
        hu=hu.astype(np.int16),
        spacing=(2.0, 2.0, 4.0),
        origin=(0.0, 0.0, 0.0),
        direction=np.eye(3),
        source=f"ball {seed}",
    )
    return volume, np.array([[x - radius, y - radius, x + radius, y + radius]], np.float32)


def sample(seed):
    volume, box = scan_with_a_ball(seed)
    return scan_samples(volume, {4: box}, PRESETS["tiny"].preprocessing)[0]


@pytest.fixture(scope="package")
def images():
    """20 samples [20, 3, 3, 64, 160] that the detector was not trained on.

    Padded to the right as small images are: anchors in the padding score the same.
    """
    images = torch.stack([sample(1000 + seed).images for seed in range(20)])
    return torch.nn.functional.pad(images, (0, 96))


@pytest.fixture(scope="package")
def trained(tmp_path_factory):
    """A detector that finds the balls."""
    samples = Samples(16, sample)
    samples.preload(1e9)
    config = replace(TRAINING_PRESETS["tiny"], epochs=24)
    result = train("tiny", samples, tmp_path_factory.mktemp("train"), config, device="cpu")
    return load_detector(result.weights)


@pytest.fixture(scope="package")
def exported(trained, images, tmp_path_factory):
    """The file of a form and a precision; each is exported once."""
    folder, size = tmp_path_factory.mktemp("onnx"), tuple(images.shape[-2:])

    def file(form="native", precision="float32"):
        path = folder / f"{form}-{precision}.onnx"
        if not path.exists():
            export_onnx(trained, path, form=form, image_size=size, precision=precision)
        return path

    return file
