"""The edge between config files and the program: frozen dataclasses and their validation.

`configs/base.py` gives every field its default, unit and meaning; here stand only the types and
what is allowed. Everything below this module receives these dataclasses, never a ConfigDict.
"""

import dataclasses
import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from began_jax import errors

PRESETS = ("author", "fig1", "ebgan")
INITS = ("paper", "he")
DTYPES = ("float32", "bfloat16")
CONVS = ("auto", "plain", "phases", "winograd")
SOURCES = ("synthetic_faces", "tfds", "folder", "array")
POLICIES = ("warn", "stop", "rollback")
CROPS = ("center", "celeba")
NETWORKS = ("random_conv", "efficientnet_lite0", "inception")
OBJECTIVES = ("began", "began_cs", "denoising", "variational", "ebgan", "ebgan_pt", "hinge")
# Objectives whose encoder must end in a vector; that need the whole batch at once.
_OF_VECTORS = ("began_cs", "variational", "hinge")
_OF_WHOLE_BATCHES = ("denoising", "variational", "ebgan_pt")
BOTTLENECK_SIZE = 8  # height and width at the encoder/decoder boundary, at every resolution

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


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The two networks; see `began_jax/models`."""

    preset: str
    resolution: int
    channels: int
    n: int
    n_h: int
    n_z: int
    repeats: int
    skips: bool
    carry_steps: int
    init: str
    dtype: str
    conv: str

    @property
    def num_scales(self) -> int:
        """S = log2(resolution / 8), the number of halvings down to 8×8."""
        return int(math.log2(self.resolution // BOTTLENECK_SIZE))

    @property
    def code_size(self) -> int:
        """The numbers of a code of D: N_h or, of preset "ebgan", (R/8)² maps of 4n."""
        if self.preset == "ebgan":
            return (self.resolution // 8) ** 2 * 4 * self.n
        return self.n_h


@dataclasses.dataclass(frozen=True)
class BeganConfig:
    """BEGAN's objective and its controller; see `objectives/began.py` and `equilibrium.py`."""

    gamma: float
    lambda_k: float
    lambda_p: float
    k_init: float
    eta: int
    shared_z: bool
    alternating: bool


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Which objective, and what the others than BEGAN need; see `began_jax/objectives`."""

    name: str
    cs_weight: float
    noise_level: float
    noise_steps: int
    kl_weight: float
    margin: float
    pt_weight: float


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Adam, the plateau rule and the moving average; see `optimizers.py`."""

    learning_rate: float
    b1: float
    b2: float
    decay_factor: float
    decay_window_steps: int
    decay_threshold: float
    min_learning_rate: float
    ema_half_life_images: int


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where the images come from and how they become squares; see `began_jax/data`."""

    source: str
    name: str
    split: str
    path: str
    crop: str
    crop_size: int
    max_bad_fraction: float
    num_images: int
    flip: bool


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The loop; see `train.py`."""

    batch_size: int
    microbatches: int
    shard_optimizer: bool
    num_steps: int
    steps_per_dispatch: int
    num_samples: int
    log_every_steps: int
    sample_every_images: int
    checkpoint_every_steps: int
    checkpoints_to_keep: int
    keep_checkpoint_every_steps: int


@dataclasses.dataclass(frozen=True)
class HealthConfig:
    """When a run is unwell, and what then; see `health.py`."""

    policy: str
    max_rollbacks: int
    window_steps: int
    grace_images: int


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """What a checkpoint's samples are compared by; see `evaluate.py`."""

    network: str
    weights: str
    num_samples: int
    num_seeds: int
    every_steps: int
    samples_in_training: int


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that defines a run."""

    name: str
    seed: int
    model: ModelConfig
    began: BeganConfig
    objective: ObjectiveConfig
    optim: OptimConfig
    data: DataConfig
    train: TrainConfig
    health: HealthConfig
    eval: EvalConfig


def parse(values: Mapping[str, Any]) -> Config:
    """Turns a (nested) mapping with exactly the fields of `Config` into a validated `Config`.

    Raises:
      ConfigError: naming every offending field, its value and what is allowed, a line each.
    """
    config = _build(Config, values, "config")
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


def differing_fields(saved: Config, new: Config) -> list[tuple[str, Any, Any]]:
    """(field, saved value, new value) of every field that a run may not change when it goes on.

    A run may change its name, how long it trains, records and saves, and where its images lie
    (`train.py` looks at the images themselves); the rest defines what is computed.
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
        f"config.{name} = {values[name]!r}: {text}" for name, ok, text in _rules(config) if not ok
    ]


def _rules(config: Config) -> list[tuple[str, bool, str]]:
    m, b, j, o = config.model, config.began, config.objective, config.optim
    d, t, h, e = config.data, config.train, config.health, config.eval
    return [
        ("name", bool(config.name) and "/" not in config.name, "a name without '/' is needed"),
        ("seed", 0 <= config.seed < 2**32, "0 to 2^32 - 1"),
        ("model.preset", m.preset in PRESETS, f"one of {PRESETS}"),
        ("model.resolution", m.resolution in (16, 32, 64, 128, 256), "16, 32, 64, 128 or 256"),
        ("model.channels", m.channels in (1, 3), "1 (grey) or 3 (RGB)"),
        ("model.n", m.n >= 1, "1 or more"),
        ("model.n_h", m.n_h >= 1, "1 or more"),
        ("model.n_z", m.n_z >= 1, "1 or more"),
        ("model.repeats", m.repeats >= 1, "1 or more"),
        ("model.carry_steps", m.carry_steps >= 0, "0 (off) or more"),
        (
            "model.carry_steps",
            m.preset != "ebgan" or m.carry_steps <= 0,
            "0 is needed: model.preset 'ebgan' has no vanishing residual",
        ),
        ("model.init", m.init in INITS, f"one of {INITS}"),
        ("model.dtype", m.dtype in DTYPES, f"one of {DTYPES}"),
        ("model.conv", m.conv in CONVS, f"one of {CONVS}"),
        (
            "model.conv",
            m.conv != "winograd" or m.dtype == "float32",
            "its sums need model.dtype 'float32'",
        ),
        ("began.gamma", 0 <= b.gamma <= 1, "0 to 1"),
        ("began.lambda_k", 0 <= b.lambda_k <= 1, "0 to 1"),
        ("began.lambda_p", 0 <= b.lambda_p <= 100, "0 (off) to 100"),
        ("began.k_init", 0 <= b.k_init <= 1, "0 to 1"),
        ("began.eta", b.eta in (1, 2), "1 or 2"),
        ("objective.name", j.name in OBJECTIVES, f"one of {OBJECTIVES}"),
        (
            "objective.name",
            j.name != "began_cs" or m.n_h == m.n_z,
            f"its codes are latents: model.n_h ({m.n_h}) and model.n_z ({m.n_z}) must be equal",
        ),
        (
            "objective.name",
            m.preset != "ebgan" or j.name not in _OF_VECTORS,
            "its encoder gives a vector, that of model.preset 'ebgan' gives maps",
        ),
        (
            "objective.name",
            j.name not in _OF_WHOLE_BATCHES or t.microbatches == 1,
            "its noise or its term is of the whole batch: train.microbatches 1 is needed",
        ),
        ("objective.cs_weight", j.cs_weight >= 0, "0 or more"),
        ("objective.noise_level", j.noise_level >= 0, "0 or more"),
        ("objective.noise_steps", j.noise_steps >= 0, "0 (constant) or more"),
        ("objective.kl_weight", j.kl_weight >= 0, "0 or more"),
        ("objective.margin", j.margin > 0, "above 0"),
        ("objective.pt_weight", j.pt_weight >= 0, "0 or more"),
        ("optim.learning_rate", 0 < o.learning_rate <= 1, "above 0, 1 at most"),
        ("optim.b1", 0 <= o.b1 < 1, "0 or more, below 1"),
        ("optim.b2", 0 <= o.b2 < 1, "0 or more, below 1"),
        ("optim.decay_factor", 0 < o.decay_factor < 1, "between 0 and 1"),
        ("optim.decay_window_steps", o.decay_window_steps >= 1, "1 or more"),
        ("optim.decay_threshold", o.decay_threshold > 0, "above 0"),
        (
            "optim.min_learning_rate",
            0 <= o.min_learning_rate <= o.learning_rate,
            f"0 to optim.learning_rate ({o.learning_rate})",
        ),
        ("optim.ema_half_life_images", o.ema_half_life_images >= 0, "0 (off) or more"),
        ("data.source", d.source in SOURCES, f"one of {SOURCES}"),
        ("data.name", d.source != "tfds" or bool(d.name), "a TFDS name is needed"),
        ("data.split", d.source != "tfds" or bool(d.split), "a TFDS split is needed"),
        (
            "data.path",
            d.source not in ("folder", "array") or bool(d.path),
            f"a path is needed when data.source is {d.source!r}",
        ),
        ("data.crop", d.crop in CROPS, f"one of {CROPS}"),
        ("data.crop_size", d.crop_size >= 0, "0 (the shorter side) or a number of pixels"),
        ("data.max_bad_fraction", 0 <= d.max_bad_fraction <= 1, "0 to 1"),
        ("data.num_images", d.num_images >= 1, "1 or more"),
        ("train.batch_size", t.batch_size >= 1, "1 or more"),
        (
            "train.microbatches",
            t.microbatches >= 1 and t.batch_size % max(t.microbatches, 1) == 0,
            f"a divisor of train.batch_size ({t.batch_size})",
        ),
        ("train.num_steps", 1 <= t.num_steps < 2**31, "1 to 2^31 - 1"),
        ("train.steps_per_dispatch", t.steps_per_dispatch >= 0, "0 (chosen) or more"),
        (
            "train.steps_per_dispatch",
            math.gcd(t.log_every_steps, t.checkpoint_every_steps) % max(t.steps_per_dispatch, 1)
            == 0,
            "a divisor of train.log_every_steps and train.checkpoint_every_steps",
        ),
        ("train.num_samples", t.num_samples >= 2, "2 or more"),
        ("train.log_every_steps", t.log_every_steps >= 1, "1 or more"),
        ("train.sample_every_images", t.sample_every_images >= 1, "1 or more"),
        ("train.checkpoint_every_steps", t.checkpoint_every_steps >= 1, "1 or more"),
        ("train.checkpoints_to_keep", t.checkpoints_to_keep >= 1, "1 or more"),
        (
            "train.keep_checkpoint_every_steps",
            t.keep_checkpoint_every_steps >= 0,
            "0 (off) or more",
        ),
        ("health.policy", h.policy in POLICIES, f"one of {POLICIES}"),
        ("health.max_rollbacks", h.max_rollbacks >= 0, "0 or more"),
        ("health.window_steps", h.window_steps >= 1, "1 or more"),
        ("health.grace_images", h.grace_images >= 0, "0 or more"),
        ("eval.network", e.network in NETWORKS, f"one of {NETWORKS}"),
        ("eval.num_samples", e.num_samples >= 1000, "1000 or more"),
        ("eval.num_seeds", e.num_seeds >= 1, "1 or more"),
        (
            "eval.every_steps",
            e.every_steps >= 0 and e.every_steps % max(t.checkpoint_every_steps, 1) == 0,
            "0 (off) or a multiple of train.checkpoint_every_steps",
        ),
        ("eval.samples_in_training", e.samples_in_training >= 1000, "1000 or more"),
    ]
