import pytest

from lesionkit.models import PRESETS
from lesionkit.training import TRAINING_PRESETS, TrainingConfig


def test_every_detector_has_its_training():
    assert TRAINING_PRESETS.keys() == PRESETS.keys()


def test_paper_defaults():
    config = TRAINING_PRESETS["3dce_cs_att"]
    rates = [config.rate(100 * epoch, 100) for epoch in range(6)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3, 1e-3, 1e-4, 1e-5])
    assert (config.optimizer, config.momentum, config.batch_size) == ("sgd", 0.9, 2)
    assert config.weight_decay == 5e-5
    assert TRAINING_PRESETS["3dce"].weight_decay == 5e-4
    assert not config.flip


def test_cosine_with_warmup():
    config = TrainingConfig(epochs=2, learning_rate=1.0, schedule="cosine", warmup_steps=3)
    rates = [config.rate(step, 50) for step in range(100)]
    assert rates[0] == pytest.approx(0.25)
    assert max(rates) == rates[3] == pytest.approx(1, abs=0.01)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert 0 < rates[-1] < 0.001


def test_json_round_trip():
    config = TRAINING_PRESETS["tiny"]
    assert TrainingConfig(**{**config.to_dict(), "milestones": [4, 5]}) == config


@pytest.mark.parametrize(
    "field,value",
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("batch_size", True),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("optimizer", "lion"),
        ("schedule", "linear"),
        ("seed", -1),
        ("gradient_clip", "5"),
        ("milestones", None),
        ("milestones", ("four",)),
        ("milestones", (4, float("nan"))),
    ],
)
def test_wrong_value_names_its_field(field, value):
    with pytest.raises(ValueError, match=field):
        TrainingConfig(**{field: value})
