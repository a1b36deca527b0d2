"""A tiny detector with some training, synthetic samples for it, and its exported files."""

from dataclasses import replace

import pytest
import torch

from lesionkit.data import DeepLesion, synthesize
from lesionkit.deploy import export_onnx
from lesionkit.models import PRESETS, load_detector
from lesionkit.training import TRAINING_PRESETS, deeplesion_samples, train

SIZE = PRESETS["tiny"].preprocessing.max_size


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def samples(tmp_path_factory):
    """Synthetic CT of 7 patients to train on, and of 10 others, with two key slices or more each.

    Small pictures are as good here: the detector has its own spacing of pixels.
    """
    data = tmp_path_factory.mktemp("synth") / "data"
    synthesize(data, 18, seed=1, image_size=64, workers=1, held_out=(1 / 18, 10 / 18))
    preprocessing = PRESETS["tiny"].preprocessing
    return {
        split: deeplesion_samples(DeepLesion(data, split=split), preprocessing)
        for split in ("train", "test")
    }


@pytest.fixture(scope="package")
def images(samples):
    """20 samples [20, 3, 3, 192, 192] that the detector was not trained on.

    Padded to the right and below as smaller images are: anchors in the padding score the same.
    """
    images = [samples["test"][index].images for index in range(20)]
    assert len({each.shape for each in images}) > 5
    return torch.stack(
        [
            torch.nn.functional.pad(each, (0, SIZE - each.shape[-1], 0, SIZE - each.shape[-2]))
            for each in images
        ]
    )


@pytest.fixture(scope="package")
def trained(samples, tmp_path_factory):
    """A detector that has begun to learn what lesions look like."""
    samples["train"].preload(1e9)
    config = replace(TRAINING_PRESETS["tiny"], epochs=6, batch_size=2, warmup_steps=8)
    result = train("tiny", samples["train"], tmp_path_factory.mktemp("train"), config, device="cpu")
    return load_detector(result.weights)


@pytest.fixture(scope="package")
def exported(trained, tmp_path_factory):
    """The file of a form and a precision; each is exported once."""
    folder = tmp_path_factory.mktemp("onnx")

    def file(form="native", precision="float32"):
        path = folder / f"{form}-{precision}.onnx"
        if not path.exists():
            export_onnx(trained, path, form=form, precision=precision)
        return path

    return file
