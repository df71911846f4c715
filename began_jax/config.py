"""The edge between config files and the program: mappings and JSON to dataclasses, and back."""

import dataclasses
import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from began_jax import errors, rules
from began_jax.schema import Config

_FREE_ON_RESUME = (
    "name",
    "model.conv",
    "data.source",
    "data.name",
    "data.split",
    "data.path",
    "data.crop",
    "data.crop_size",
    "data.max_bad_fraction",
    "data.num_images",
    "train.num_steps",
    "train.microbatches",
    "train.shard_optimizer",
    "train.steps_per_dispatch",
    "train.log_every_steps",
    "train.sample_every_images",
    "train.checkpoint_every_steps",
    "train.checkpoints_to_keep",
    "train.keep_checkpoint_every_steps",
    "health.policy",
    "health.max_rollbacks",
    "health.window_steps",
    "health.grace_images",
    "eval.network",
    "eval.weights",
    "eval.num_samples",
    "eval.num_seeds",
    "eval.every_steps",
    "eval.samples_in_training",
)


class ConfigError(errors.UserError):
    """A setting that is misspelt, missing, of the wrong type or impossible; one line each."""


def parse(values: Mapping[str, Any]) -> Config:
    """Turns a (nested) mapping with exactly the fields of `Config` into a validated `Config`.

    Raises:
      ConfigError: naming every offending field, its value and what is allowed, a line each.
    """
    config = _convert(Config, values, "config")
    problems = _problems(config)
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def load(path: Path) -> Config:
    """The config that `to_json` wrote to a file.

    Raises:
      ConfigError: it is not there, damaged, or of another version of this program.
    """
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"{path}: not there, so no run is") from None
    except (ValueError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}") from error


def to_json(config: Config) -> str:
    """The resolved config as indented JSON; `parse(json.loads(...))` is its inverse."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def check_field(dotted: str) -> None:
    """Raises ConfigError unless `Config` has the field (or group), as in 'model.n'."""
    group, prefix = Config, "config"
    for name in dotted.split("."):
        known = _fields(group)
        if name not in known:
            raise ConfigError(_unknown_field(prefix, name, known))
        group, prefix = known[name], f"{prefix}.{name}"


def check_arguments(arguments: Iterable[str]) -> None:
    """Raises UserError for a field or a file that a command line's --config names in vain."""
    for argument in arguments:
        if field := re.match(r"--?(?:no)?config\.([\w.]+)", argument):
            check_field(field[1])
        file = re.match(r"--?config=([^:]*)", argument)
        if file and not Path(file[1]).is_file():
            raise errors.UserError(f"--config={file[1]}: no such file")


def check_same_run(workdir: Path, config: Config) -> None:
    """Raises ConfigError, naming the fields, if the run in `workdir`, if any, is of another one."""
    path = workdir / "config.json"
    differing = differing_fields(load(path), config) if path.exists() else []
    if differing:
        lines = [f"{name}: {old!r} there, {new!r} here" for name, old, new in differing]
        message = f"{workdir}: it holds a run of another config"
        raise ConfigError("\n".join([message, *lines]))


def differing_fields(saved: Config, new: Config) -> list[tuple[str, Any, Any]]:
    """(field, saved value, new value) of every field that a run may not change when it goes on.

    A run may change its name, its length, records, saves, alarms and evaluations, how it is
    computed, and where its images lie (`train.py` looks at the images themselves); the rest defines
    what is computed.
    """
    return [
        (f"config.{name}", old, new_value)
        for (name, old), new_value in zip(
            flatten(saved).items(), flatten(new).values(), strict=True
        )
        if old != new_value and name not in _FREE_ON_RESUME
    ]


def flatten(config: Config) -> dict[str, Any]:
    """Every field by its dotted name, in the order of the dataclasses."""
    flat: dict[str, Any] = {}
    for name, value in dataclasses.asdict(config).items():
        if isinstance(value, dict):
            flat.update({f"{name}.{key}": inner for key, inner in value.items()})
        else:
            flat[name] = value
    return flat


def _build(cls: type, values: Mapping[str, Any], prefix: str) -> Any:
    fields = _fields(cls)
    for key in values:
        if key not in fields:
            raise ConfigError(_unknown_field(prefix, key, fields))
    missing = [name for name in fields if name not in values]
    if missing:
        raise ConfigError(f"{prefix}.{missing[0]}: missing; configs/base.py names every field")
    return cls(**{k: _convert(t, values[k], f"{prefix}.{k}") for k, t in fields.items()})


def _fields(cls: Any) -> dict[str, Any]:
    is_group = dataclasses.is_dataclass(cls)
    return {field.name: field.type for field in dataclasses.fields(cls)} if is_group else {}


def _unknown_field(prefix: str, name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {prefix}.{near[0]}?" if near else f"there are: {', '.join(known)}"
    shown = name if name.isidentifier() else repr(name)
    return f"{prefix}.{shown}: no such field; {hint}"


def _convert(expected: Any, value: Any, field: str) -> Any:
    if dataclasses.is_dataclass(expected):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{field} = {value!r}: a group of fields is needed")
        return _build(expected, value, field)  # type: ignore[arg-type]
    if expected is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if type(value) is not expected:
        raise ConfigError(f"{field} = {value!r}: {expected.__name__} is needed")
    if expected is int and abs(value) >= 2**32:
        raise ConfigError(f"{field} = {value!r}: a number below 2^32 is needed")
    if expected is float and not math.isfinite(value):
        raise ConfigError(f"{field} = {value!r}: a finite number is needed")
    return value


def _problems(config: Config) -> list[str]:
    """Every violated rule as 'field = value: what is allowed'."""
    values = flatten(config)
    return [
        f"config.{rule.field} = {values[rule.field]!r}: {rule.allowed}"
        for rule in rules.of(config)
        if not rule.is_kept
    ]
