"""The config of a run: a preset, a YAML file and ``key=value`` overrides, checked as one."""

import difflib
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lesionkit.errors import InputError
from lesionkit.models import PRESETS, DetectorConfig
from lesionkit.training.config import TRAINING_PRESETS, TrainingConfig

DEFAULT_PRESET = "3dce_cs_att"
# What changes the cost of a run, never its result.
_FREE = ("training.workers", "training.cache_gib", "training.checkpoint_every")


@dataclass(frozen=True)
class RunConfig:
    """What to train and how; the choices of ``preset`` hold where nothing else was said."""

    preset: str
    detector: DetectorConfig
    training: TrainingConfig


def read_run_config(
    preset: str | None = None,
    path: str | os.PathLike | None = None,
    options: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    base: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The config of a run; each of these outdoes those before it.

    Args:
        preset: the name of one; by default the file's, or "3dce_cs_att".
        path: a YAML file with ``preset``, ``detector`` and ``training``, each optional.
        options: dotted keys and their values.
        overrides: ``key=value`` with dotted keys, such as ``training.epochs=2``; values are YAML.
        base: {"preset", "detector", "training"} in place of the preset's choices, for a run that
            is resumed.

    Raises:
        InputError: no such file, no YAML, an unknown key (naming the nearest one), a wrong value,
            or one other than the preset's that would change nothing (momentum without sgd,
            milestones of another schedule than "step" or beyond the last epoch).
        ModuleNotFoundError: OmegaConf is not installed.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    given = _read_yaml(path) if path else OmegaConf.create({})
    last = _read_overrides(overrides)
    presets = (last.get("preset"), preset, given.get("preset"), (base or {}).get("preset"))
    preset = next((name for name in presets if name is not None), DEFAULT_PRESET)
    if not isinstance(preset, str) or preset not in PRESETS:
        raise InputError(f"preset {preset}: must be one of {', '.join(PRESETS)}")
    known = {
        "detector": PRESETS[preset].to_dict(),
        "training": TRAINING_PRESETS[preset].to_dict(),
    }
    if base:
        known = {name: base[name] for name in known}
    try:
        for key, value in (options or {}).items():
            OmegaConf.update(given, key, value)
        given = OmegaConf.merge(given, last)
        given = OmegaConf.to_container(given, resolve=True, throw_on_missing=True)
        given.pop("preset", None)
        _check_keys(given, known)
        whole = OmegaConf.to_container(OmegaConf.merge(known, given))
        _check_effect(given.get("training", {}), known["training"], whole["training"])
    except (OmegaConfBaseException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        where = getattr(error, "full_key", None)
        raise InputError(f"config: {where or ''} {str(error).splitlines()[0]}") from None
    return RunConfig(
        preset,
        DetectorConfig.from_dict(whole["detector"]),
        TrainingConfig.from_dict(whole["training"]),
    )


def _read_yaml(path: str | os.PathLike) -> Any:
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        given = OmegaConf.load(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a YAML file") from None
    except (YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(given, DictConfig):
        raise InputError(f"{path}: must be a mapping with preset, detector or training")
    return given


def _read_overrides(overrides: Sequence[str]) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for text in overrides:
        key, equals, _ = text.partition("=")
        if not (key and equals):
            raise InputError(f"{text}: must be key=value, such as training.epochs=2")
        try:
            OmegaConf.from_dotlist([text])
        except (YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
            raise InputError(f"{text}: not YAML ({' '.join(str(error).split())})") from None
    return OmegaConf.from_dotlist(list(overrides))


def _check_keys(given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise InputError for a key that is not ``known``, naming the nearest one."""
    names = dict(_flat(known))
    for key, value in _flat(given):
        if key not in names:
            inside = [name for name in names if name.startswith(f"{key}.")]
            if inside or key in known:
                if value != {}:  # an empty mapping says nothing
                    raise InputError(f"config: {key} must be a mapping, got {value!r}")
                continue
            raise InputError(f"config: unknown key {key}; {_nearest(key, known)}")
        if isinstance(names[key], list | tuple) and not isinstance(value, list | tuple):
            shown = ",".join(map(str, names[key]))
            raise InputError(f"config: {key} must be a list such as [{shown}], got {value!r}")


def _check_effect(
    given: Mapping[str, Any], preset: Mapping[str, Any], whole: Mapping[str, Any]
) -> None:
    """Raise InputError for a choice of one's own that would change nothing."""
    own = {name for name, value in given.items() if _as_json(value) != _as_json(preset[name])}
    if "momentum" in own and whole["optimizer"] != "sgd":
        raise InputError(
            f"config: training.momentum is of sgd, and training.optimizer is {whole['optimizer']}; "
            "leave it out, or set training.optimizer=sgd"
        )
    if "milestones" not in own:
        return
    milestones, epochs = whole["milestones"], whole["epochs"]
    if whole["schedule"] != "step":
        raise InputError(
            f"config: training.milestones are of the step schedule, and training.schedule is "
            f"{whole['schedule']}; leave them out, or set training.schedule=step"
        )
    numbers = all(isinstance(milestone, int | float) for milestone in milestones)
    if numbers and isinstance(epochs, int):  # the config itself refuses the others
        rising = all(a < b for a, b in itertools.pairwise(milestones))
        if not rising or any(milestone >= epochs for milestone in milestones):
            raise InputError(
                f"config: training.milestones must rise and be below training.epochs={epochs}, "
                f"got {list(milestones)}"
            )


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    """Which key was meant, first by its section: the nearest, or else what the section has."""
    names = [name for name, _ in _flat(known)]
    section, dot, rest = key.partition(".")
    near = difflib.get_close_matches(section, known, 1)
    if dot and near:
        names = [name for name in names if name.startswith(f"{near[0]}.")]
        key = f"{near[0]}.{rest}"
        if not difflib.get_close_matches(rest, [n.partition(".")[2] for n in names]):
            return f"{near[0]} has {', '.join(known[near[0]])}"
    nearest = max(names, key=lambda name: _likeness(key, name))
    return f"did you mean {nearest}?"


def _likeness(key: str, name: str) -> float:
    ends = (key.rpartition(".")[2], name.rpartition(".")[2])
    pairs = ((key, name), ends)
    return sum(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and what they hold; an empty mapping holds itself."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def different_key(kept: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first dotted key that the two configs differ in, and both values; None if they agree.

    Keys that change nothing but the cost of a run may differ.
    """
    old, new = (dict(_flat(_as_json(values))) for values in (kept, given))
    for key in [*old, *(key for key in new if key not in old)]:
        if key not in _FREE and old.get(key) != new.get(key):
            return key, old.get(key), new.get(key)
    return None
