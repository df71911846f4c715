"""What is allowed in a config, alone and beside its other values."""

import math
from typing import NamedTuple

from began_jax.schema import Config

PRESETS = ("author", "fig1", "ebgan")
INITS = ("paper", "he")
DTYPES = ("float32", "bfloat16")
CONVS = ("auto", "plain", "phases", "transposed", "winograd")
SOURCES = ("synthetic_faces", "tfds", "folder", "array")
POLICIES = ("warn", "stop", "rollback")
CROPS = ("center", "celeba")
NETWORKS = ("random_conv", "efficientnet_lite0", "inception")
OBJECTIVES = ("began", "began_cs", "denoising", "variational", "ebgan", "ebgan_pt", "hinge")
# Objectives whose encoder must end in a vector; that need the whole batch at once.
_OF_VECTORS = ("began_cs", "variational", "hinge")
OF_WHOLE_BATCHES = ("denoising", "variational", "ebgan_pt")


class Rule(NamedTuple):
    """Of a field by its dotted name: whether it is kept, and what is allowed."""

    field: str
    is_kept: bool
    allowed: str


def of(config: Config) -> list[Rule]:
    """Every rule of a config whose values have the right types."""
    m, b, j, o = config.model, config.began, config.objective, config.optim
    d, t, h, e = config.data, config.train, config.health, config.eval
    rules = [
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
            j.name not in OF_WHOLE_BATCHES or t.microbatches == 1,
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
            t.keep_checkpoint_every_steps >= 0
            and t.keep_checkpoint_every_steps % max(t.checkpoint_every_steps, 1) == 0,
            "0 (off) or a multiple of train.checkpoint_every_steps",
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
    return [Rule(*rule) for rule in rules]
