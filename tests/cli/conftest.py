import pytest
import torch

from .lk import lesionkit


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """What the verbs set for the tiny network, undone at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def data(tmp_path_factory):
    """A synthetic data set of three patients, 64 pixels a side."""
    out = tmp_path_factory.mktemp("synth") / "data"
    code, _, err = lesionkit("synth", "--out", out, "--patients", 3, "--image-size", 64)
    assert code == 0, err
    return out


@pytest.fixture(scope="package")
def trained(data, tmp_path_factory):
    """The result folder of a short training."""
    out = tmp_path_factory.mktemp("train") / "run"
    code, _, err = lesionkit(
        "train", "--data", data, "--out", out, "--preset", "tiny", "--epochs", 2, "--seed", 3
    )
    assert code == 0, err
    return out


@pytest.fixture(scope="package")
def series(data):
    """The folder of one series of the data set."""
    return min((data / "Images_png").iterdir())


@pytest.fixture(scope="package")
def eval_result(data, trained, tmp_path_factory):
    """The result folder of an evaluation on all images."""
    out = tmp_path_factory.mktemp("eval") / "out"
    code, _, err = lesionkit(
        *("eval", "--weights", trained / "weights.safetensors", "--data", data, "--out", out),
        *("--split", "all", "--replicates", 20),
    )
    assert code == 0, err
    return out


@pytest.fixture(scope="package")
def detect_result(series, trained, tmp_path_factory):
    """The result folder of a search of one scan."""
    out = tmp_path_factory.mktemp("detect") / "out"
    code, _, err = lesionkit(
        *("detect", series, "--weights", trained / "weights.safetensors", "--out", out),
        *("--slices", "2:8:2", "--score-threshold", 0.01),
    )
    assert code == 0, err
    return out
