import json
import os
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lesionkit.errors import InputError
from lesionkit.models import PRESETS, LesionDetector, load_detector, save_detector
from lesionkit.models.weights import load_beside

SMALL = replace(PRESETS["tiny"], fc_channels=8, rpn_channels=8)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LesionDetector(SMALL).eval()


@pytest.fixture
def weights(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_detector(model, path, {"epoch": "3"})
    return path


def rewrite(path, change):
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def test_round_trip(model, weights):
    loaded = load_detector(weights)
    assert loaded.config == SMALL
    assert not loaded.training
    state = loaded.state_dict()
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    images = torch.randn(1, 3, 3, 40, 40)
    assert torch.equal(loaded(images)[0]["boxes"], model(images)[0]["boxes"])


def test_header(weights):
    with safe_open(weights, framework="pt") as file:
        header = file.metadata()
    assert header["format"] == "lesionkit-detector-1"
    assert header["version"]
    assert header["epoch"] == "3"
    assert json.loads(header["config"])["fc_channels"] == 8


def test_loads_half_weights(model, tmp_path):
    path = tmp_path / "half.safetensors"
    save_detector(model.half(), path)
    assert next(load_detector(path).parameters()).dtype == torch.float32


def test_saves_a_compiled_model(model, tmp_path):
    path = tmp_path / "compiled.safetensors"
    save_detector(torch.compile(model, backend="eager"), path)
    assert load_detector(path).config == SMALL


def test_failed_save_keeps_the_old_file(model, weights, monkeypatch):
    before = weights.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("lesionkit.models.weights.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_detector(model, weights)
    assert weights.read_bytes() == before
    assert [p.name for p in weights.parent.iterdir()] == [weights.name]


def test_save_refuses(model, tmp_path):
    with pytest.raises(ValueError, match="'config'"):
        save_detector(model, tmp_path / "a.safetensors", {"config": "{}"})
    with pytest.raises(TypeError, match="LesionDetector, got Linear"):
        save_detector(torch.nn.Linear(1, 1), tmp_path / "a.safetensors")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("writer", ["torch", "torch_legacy", "pickle", "pickle_0"])
def test_pickles_are_not_opened(tmp_path, suffix, writer):
    path = tmp_path / f"model{suffix}"
    if writer == "torch":
        torch.save(Bomb(), path)
    elif writer == "torch_legacy":
        torch.save(Bomb(), path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(Bomb(), protocol=0 if writer == "pickle_0" else None))
    with pytest.raises(InputError, match=f"model{suffix}: .*safetensors"):
        load_detector(path)


def test_a_header_as_long_as_a_pickle_begins(tmp_path, model):
    """The first byte of a file is the lowest of its header's length; a pickle's is 0x80."""
    for length in range(0, 256, 8):
        path = tmp_path / "model.safetensors"
        save_detector(model, path, {"note": "x" * length})
        if path.read_bytes()[0] == 0x80:
            break
    else:
        pytest.fail("no such length")
    load_detector(path)


def test_tensors_beside_the_weights(tmp_path, model):
    path = tmp_path / "model.safetensors"
    beside = {"step": torch.tensor(7), "moments": torch.ones(2)}
    save_detector(model, path, {"note": "a"}, beside)
    assert load_detector(path).config == model.config
    found, metadata = load_beside(path)
    assert found.keys() == beside.keys()
    assert all(torch.equal(found[name], value) for name, value in beside.items())
    assert metadata["note"] == "a"


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
def test_truncated_file(weights, keep):
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"model.safetensors: damaged .* copy or download"):
        load_detector(weights)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match=r"none.safetensors: cannot be read \(No such file"):
        load_detector(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="cannot be read"):
        load_detector(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    for path in (tmp_path / "pipe.safetensors", "/dev/null"):
        with pytest.raises(InputError, match=f"{path}: a pipe or a device"):
            load_detector(path)


@pytest.mark.parametrize(
    "path",
    [
        *("/proc/self/mem", "/proc/self/cmdline", "/proc/kmsg"),
        "/sys/kernel/mm/transparent_hugepage/enabled",  # has a size, and cannot be mapped
    ],
)
def test_files_that_are_on_no_disk(path):
    with pytest.raises(InputError, match=f"{path}: .*give a .safetensors file of weights"):
        load_detector(path)


def test_foreign_file(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="its header does not say format"):
        load_detector(path)


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda t, _: t.pop("head.classes.bias"), "head.classes.bias is missing, expected"),
        (lambda t, _: t.update(more=torch.zeros(1)), "more is .1,., expected nothing"),
        (
            lambda t, _: t.update({"head.boxes.bias": torch.zeros(5)}),
            r"head.boxes.bias is \(5,\), expected \(4,\)",
        ),
        (lambda _, m: m.update(config="{"), "unusable config"),
        (lambda _, m: m.update(config='{"colour": 1}'), "unknown field colour"),
        (lambda _, m: m.update(format="other"), "format"),
    ],
)
def test_wrong_contents(weights, change, message):
    rewrite(weights, change)
    with pytest.raises(InputError, match=f"model.safetensors: .*{message}"):
        load_detector(weights)


def test_absurd_config_takes_no_memory(weights):
    def grow(_, metadata):
        config = json.loads(metadata["config"])
        metadata["config"] = json.dumps(config | {"fc_channels": 1 << 16})

    rewrite(weights, grow)
    with pytest.raises(InputError, match="not the weights of the detector"):
        load_detector(weights)


def test_integers_are_no_weights(tmp_path):
    path = tmp_path / "model.safetensors"
    save_detector(LesionDetector("tiny"), path)
    damaged = path.read_bytes().replace(b'"dtype":"F32"', b'"dtype":"I32"', 1)
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="I32, not floating point"):
        load_detector(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite(weights, value):
    def poison(tensors, _):
        tensors["head.classes.bias"] = torch.tensor([0.0, value], dtype=torch.float64)

    rewrite(weights, poison)
    with pytest.raises(InputError, match=r"model.safetensors: head.classes.bias .*not finite"):
        load_detector(weights)


def test_broken_weights_never_replace_sound_ones(model, weights):
    before = weights.read_bytes()
    with torch.no_grad():
        model.rpn.conv.weight[0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"rpn.conv.weight .*not finite"):
        save_detector(model, weights)
    assert weights.read_bytes() == before


@pytest.mark.parametrize("field, value", [("num_fc", 10**7), ("group_size", 10**9)])
def test_absurd_configs_are_refused_at_once(field, value):
    with pytest.raises(ValueError, match=field):
        replace(PRESETS["tiny"], **{field: value})
