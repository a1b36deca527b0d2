import json
from dataclasses import replace

import pytest

from lesionkit.errors import InputError
from lesionkit.models import PRESETS
from lesionkit.training import TRAINING_PRESETS, read_run_config


def test_a_preset_alone():
    run = read_run_config()
    assert run.preset == "3dce_cs_att"
    assert run.detector == PRESETS["3dce_cs_att"]
    assert run.training == TRAINING_PRESETS["3dce_cs_att"]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("images", [3, 5, 7, 9])
def test_slices(preset, images):
    run = read_run_config(preset, overrides=[f"detector.preprocessing.num_images={images}"])
    preprocessing = replace(PRESETS[preset].preprocessing, num_images=images)
    assert run.detector == replace(PRESETS[preset], preprocessing=preprocessing)


def test_each_outdoes_the_one_before(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "preset: 3dce\n"
        "detector:\n  preprocessing: {interpolation: legacy, window: [-1024, 3071]}\n"
        "  anchor_scales: [2, 3]\n"
        "training:\n  epochs: 2\n  learning_rate: 1e-2\n  seed: 7\n  milestones: [1]\n"
    )
    options = {"training.epochs": 3, "training.seed": 8}
    run = read_run_config(None, path, options, ["training.seed=9", "detector.rpn_post_nms=[9,8]"])
    assert run.preset == "3dce"
    assert run.detector.preprocessing.interpolation == "legacy"
    assert run.detector.anchor_scales == (2, 3)
    assert run.detector.rpn_post_nms == (9, 8)
    assert not run.detector.contextual
    training = run.training
    assert (training.epochs, training.learning_rate, training.seed) == (3, 0.01, 9)
    assert training.milestones == (1,)
    assert training.weight_decay == TRAINING_PRESETS["3dce"].weight_decay
    assert read_run_config("tiny", path, overrides=["training.schedule=step"]).preset == "tiny"
    assert read_run_config("tiny", path, overrides=["preset=3dce_cs_att"]).detector.contextual


def test_values_are_yaml():
    overrides = [
        "detector.backbone_weights=null",
        "training.flip=true",
        "training.weight_decay=1e-4",
    ]
    run = read_run_config(overrides=overrides)
    assert run.detector.backbone_weights is None
    assert run.training.flip is True
    assert run.training.weight_decay == 1e-4


def test_a_resumed_run_keeps_its_own_choices():
    run = read_run_config("tiny", overrides=["training.epochs=3", "detector.fc_channels=16"])
    kept = {
        "preset": "tiny",
        "detector": json.loads(json.dumps(run.detector.to_dict())),
        "training": json.loads(json.dumps(run.training.to_dict())),
    }
    assert read_run_config(base=kept) == run
    assert read_run_config(base=kept, overrides=["training.workers=2"]).training.workers == 2


def test_a_preset_s_own_values_may_change_nothing():
    """So that fewer epochs need no other milestones, and a whole config can be given back."""
    assert read_run_config("3dce", overrides=["training.epochs=2"]).training.milestones == (4, 5)
    tiny = TRAINING_PRESETS["tiny"]
    options = {f"training.{name}": getattr(tiny, name) for name in ("momentum", "milestones")}
    assert read_run_config("tiny", options=options).training == tiny


@pytest.mark.parametrize(
    "overrides,message",
    [
        (["training.epoch=2"], "unknown key training.epoch; did you mean training.epochs"),
        (["epochs=2"], "unknown key epochs; did you mean training.epochs"),
        (["num_images=5"], "did you mean detector.preprocessing.num_images"),
        (["detector.preprocessing.num_image=5"], "mean detector.preprocessing.num_images"),
        (["model.contextual=false"], "did you mean detector.contextual"),
        (["detecter.contextuel=false"], "detecter.contextuel; did you mean detector.contextual"),
        (["detecter.x=3"], "unknown key detecter.x; detector has preprocessing, "),
        (["training.zzz=3"], "unknown key training.zzz; training has epochs, batch_size, "),
        (["training.milestones=4"], r"training.milestones must be a list such as \[4,5\], got 4"),
        (["detector.anchor_scales=2"], "detector.anchor_scales must be a list"),
        (["training.milestones=[4,3]"], r"must rise and be below training.epochs=6, got \[4, 3\]"),
        (["training.milestones=[4,6]"], "must rise and be below training.epochs=6"),
        (["training.milestones=[a]"], "milestones must be numbers"),
        (
            ["training.milestones=[2]", "training.schedule=cosine"],
            "training.milestones are of the step schedule, and training.schedule is cosine",
        ),
        (
            ["training.momentum=0.5", "training.optimizer=adamw"],
            "training.momentum is of sgd, and training.optimizer is adamw",
        ),
        (["training.epochs"], "training.epochs: must be key=value"),
        (["=2"], "must be key=value"),
        (["training.epochs=two"], "training config: epochs must be a whole number, got 'two'"),
        (["training.epochs=0"], "training config: epochs must be >= 1, got 0"),
        (["training.flip=maybe"], "flip must be True or False"),
        (["training.tensorboard=1"], "tensorboard must be True or False"),
        (["training=fast"], "training must be a mapping, got 'fast'"),
        (["detector.preprocessing=5"], "detector.preprocessing must be a mapping, got 5"),
        (["training.epochs.more=5"], "training.epochs"),
        (["detector.preprocessing.num_images=4"], "num_images must be an odd integer"),
        (["training.seed=${training.sed}"], "config: .*training.sed"),
        (["training.milestones=[1"], r"training.milestones=\[1: not YAML"),
        (["preset=huge"], "preset huge: must be one of"),
        (["detector.backbone_weights=vgg.onnx"], "backbone_input must say what input vgg.onnx"),
        (["detector.backbone_weights=vgg.pth"], "backbone_weights must be None, 'torchvision' or"),
    ],
)
def test_what_is_refused(overrides, message):
    with pytest.raises(InputError, match=message):
        read_run_config(overrides=overrides)


@pytest.mark.parametrize(
    "text,message",
    [
        ("a: [1", "run.yaml: not YAML"),
        ("- 1\n", "run.yaml: must be a mapping"),
        ("just words\n", "unknown key just words"),
        ("preset: 5\n", "preset 5: must be one of"),
        ("preset: [3dce]\n", "preset .*3dce.*: must be one of"),
        ("training:\n  seed: ???\n", "config: .*training.seed"),
        ("trainng:\n  epochs: 1\n", "unknown key trainng.epochs; did you mean training.epochs"),
        ("trainng: {}\n", "unknown key trainng"),
        ("training:\n  epochs: 1\n  epochs: 2\n", "run.yaml: not YAML"),
        ("!!python/object/apply:os.system ['false']\n", "run.yaml: not YAML"),
    ],
)
def test_files_that_are_refused(tmp_path, text, message):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_run_config(path=path)


def test_empty_files_say_nothing(tmp_path):
    path = tmp_path / "run.yaml"
    for text in ("", "training: {}\n"):
        path.write_text(text)
        assert read_run_config(path=path) == read_run_config()


def test_no_such_file_and_binary(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: No such file"):
        read_run_config(path=tmp_path / "none.yaml")
    with pytest.raises(InputError, match="give a YAML file"):
        read_run_config(path=tmp_path)
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match=r"run\.yaml: not YAML"):
        read_run_config(path=tmp_path / "run.yaml")
