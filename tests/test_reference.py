"""The project's step against `reference.py`: the same weights, images and z, the same numbers."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from began_jax import models, randomness, train_state, train_step
from began_jax.randomness import Purpose
from tests import reference
from tests.conftest import make_config

UNIT_ROUNDOFF = 2.0**-24  # float32

COMMON = {
    "model__carry_steps": 15,  # the carry ends, and stays at 0, within 20 steps
    "began__lambda_k": 0.05,
    "optim__learning_rate": 1e-3,
    "optim__min_learning_rate": 3e-4,
    "optim__decay_window_steps": 10**6,
    "train__batch_size": 3,
}
PLAIN = {"model__skips": False, "model__carry_steps": 0, "began__eta": 2}
PLATEAU = {"optim__decay_window_steps": 3, "optim__decay_threshold": 1e-3}
VARIANTS = {
    "author": (20, {"model__preset": "author", "model__resolution": 32}),
    "fig1": (20, {"model__preset": "fig1", "began__k_init": 0.99, "began__gamma": 1.0}),
    "plain_plateau": (20, {"model__preset": "author", **PLAIN, **PLATEAU, "train__batch_size": 4}),
    "shared_z": (
        5,
        {"model__preset": "fig1", "model__resolution": 32, "began__shared_z": True},
    ),
    "alternating": (5, {"model__preset": "author", "began__alternating": True}),
}


def images_of(config, num_steps):
    """Noise in blocks of 4 × 4 pixels, whose contrast rises and falls."""
    rng = np.random.default_rng(0)
    size = config.model.resolution
    shape = (num_steps, config.train.batch_size, size // 4, size // 4, config.model.channels)
    contrast = 0.55 + 0.45 * np.cos(2 * np.pi * np.arange(num_steps) / 12)
    blocks = rng.uniform(-127, 127, shape) * contrast[:, None, None, None, None]
    return (127.5 + blocks.repeat(4, 2).repeat(4, 3)).astype(np.uint8)


@functools.partial(jax.jit, static_argnums=0)
def latents(config, seed, step):
    """z_D and z_G as the project draws them."""
    _, key_d, key_g = jax.random.split(randomness.key(seed, Purpose.STEP, step), 3)
    z_d, z_g = (
        models.sample_latents(config.model, key, config.train.batch_size) for key in (key_d, key_g)
    )
    return z_d, z_d if config.began.shared_z else z_g


def to_numpy(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def to_reference(config, state, plateau):
    """The project's state as the reference's, but for the plateau's record."""
    g, d, adam_g, adam_d = to_numpy(
        (state.generator, state.discriminator, state.generator_adam, state.discriminator_adam)
    )
    return reference.State(
        int(state.step),
        g,
        d,
        (adam_g.mu, adam_g.nu),
        (adam_d.mu, adam_d.nu),
        float(state.equilibrium.k),
        plateau,
    )


@functools.cache
def run(variant):
    """The project's states and metrics over the variant's steps, with what fed them."""
    num_steps, overrides = VARIANTS[variant]
    config = make_config(**{**COMMON, **overrides})
    state = jax.jit(train_state.init, static_argnums=0)(config)
    step = jax.jit(train_step.train_step, static_argnums=0)
    states, metrics, feeds = [state], [], []
    for images in images_of(config, num_steps):
        feeds.append((images, *to_numpy(latents(config, state.seed, state.step))))
        state, measured = step(config, state, images)
        states.append(state)
        metrics.append({name: float(value) for name, value in measured.items()})
    return config, states, metrics, feeds
