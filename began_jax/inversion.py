"""Latents of given images: z = argmin mean |x − G(z)|, by Adam (the paper's Fig. 4).

Or in one pass by D's encoder, where the objective taught it to invert G (`objectives/began_cs.py`).
"""

import functools
from typing import NamedTuple

import jax
import numpy as np
import optax
from jax import Array
from jax import numpy as jnp

from began_jax import blocks, generate, models, pixels, progress, randomness
from began_jax.randomness import Purpose
from began_jax.schema import Config
from began_jax.train_state import TrainState

_LEARNING_RATE = 0.1
# An accelerator makes so many updates without the host; XLA:CPU is slow inside loops.
_UPDATES_A_CALL = 20
_LATENTS_AT_ONCE = 64


class Inversion(NamedTuple):
    """What was found for each of N images."""

    z: np.ndarray  # float32 (N, N_z) in [−1, 1]
    images: np.ndarray  # uint8 (N, R, R, C), G(z)
    residuals: np.ndarray  # float32 (N,), mean |x − G(z)| in the unit of [−0.5, 0.5]


class _Search(NamedTuple):
    z: Array  # (restarts · N, N_z)
    adam: optax.OptState
    best_z: Array
    best_residuals: Array  # (restarts · N,)


def invert(
    config: Config,
    state: TrainState,
    images: np.ndarray,
    *,
    seed: int = 0,
    num_updates: int = 400,
    restarts: int = 4,
    average: bool = True,
) -> Inversion:
    """Searches z in [−1, 1]^{N_z} for each image, from several draws at once; the best is kept.

    The learning rate falls from 0.1 to 0 along a cosine; after an update z is cut to the range that
    G was trained on. What is found for image i does not depend on how many others there are.

    Args:
      images: uint8 (N, R, R, C).
      seed: of the first latents.
      num_updates: a multiple of 20.
      restarts: at most 64, as so many latents are searched at once.
      average: G's moving average, where the run keeps one; else G itself.
    """
    params = state.sampling_generator if average else state.generator
    carry = models.carry_at(config.model, state.step)
    adam = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, num_updates))
    a_call = 1 if jax.default_backend() == "cpu" else _UPDATES_A_CALL
    update = jax.jit(functools.partial(_update, config, adam, a_call))
    draw = jax.jit(functools.partial(_draw, config, seed, restarts))
    at_once = _LATENTS_AT_ONCE // restarts
    num_blocks = -(-len(images) // at_once)

    def search(indices: np.ndarray) -> tuple[Array, Array]:
        x = pixels.to_float(jnp.asarray(images[indices]))
        x = jnp.repeat(x, restarts, axis=0)
        z = draw(indices)
        found = _Search(z, adam.init(z), z, jnp.full(len(z), jnp.inf))
        for _ in range(num_updates // a_call):
            found = update(found, params, carry, x)
            jax.block_until_ready(found.best_residuals)
            advance(a_call)
        residuals = found.best_residuals.reshape(at_once, restarts)
        best = jnp.argmin(residuals, axis=1)[:, None]
        z = found.best_z.reshape(at_once, restarts, -1)
        z = jnp.take_along_axis(z, best[..., None], axis=1)[:, 0]
        return z, jnp.take_along_axis(residuals, best, axis=1)[:, 0]

    what = f"inverting {len(images)} images"
    with progress.bar(num_blocks * num_updates, what, "updates") as advance:
        # The last block repeats its first images: one program serves every number of images.
        blocks_of_indices = [
            first + np.arange(at_once) % min(at_once, len(images) - first)
            for first in range(0, len(images), at_once)
        ]
        found = jax.device_get([search(indices) for indices in blocks_of_indices])
    z, residuals = (np.concatenate(parts)[: len(images)] for parts in zip(*found, strict=True))
    fakes = generate.from_latents(config, state, z, average=average)
    return Inversion(z, fakes, residuals)


def by_encoder(
    config: Config, state: TrainState, images: np.ndarray, *, average: bool = True
) -> Inversion:
    """z = Enc(x) of uint8 images (N, R, R, C), cut to [−1, 1]; needs N_h = N_z."""
    carry = models.carry_at(config.model, state.step)

    @jax.jit
    def encode(d: models.Params, x: Array) -> Array:
        return jnp.clip(models.encode(config.model, d, pixels.to_float(x), carry), -1.0, 1.0)

    z = blocks.map_rows(encode, images, state.discriminator).astype(np.float32)
    params = state.sampling_generator if average else state.generator

    @jax.jit
    def residuals(g: models.Params, x_and_z: tuple[Array, Array]) -> Array:
        x, z = x_and_z
        return _residuals(config, g, carry, pixels.to_float(x), z)

    fakes = generate.from_latents(config, state, z, average=average)
    return Inversion(z, fakes, blocks.map_rows(residuals, (images, z), params))


def _draw(config: Config, seed: int, restarts: int, indices: Array) -> Array:
    """The first latents (N · restarts, N_z) of the images with these indices."""

    def one(index: Array) -> Array:
        key = randomness.key(seed, Purpose.INVERSION, index)
        return models.sample_latents(config.model, key, restarts)

    return jax.vmap(one)(indices).reshape(len(indices) * restarts, -1)


def _residuals(
    config: Config, params: models.Params, carry: Array | None, x: Array, z: Array
) -> Array:
    """mean |x − G(z)| of each image (N,), of G(z) as it is, neither cut nor rounded."""
    return jnp.abs(x - models.generate(config.model, params, z, carry)).mean((1, 2, 3))


def _update(
    config: Config,
    adam: optax.GradientTransformation,
    num_updates: int,
    search: _Search,
    params: models.Params,
    carry: Array | None,
    x: Array,
) -> _Search:
    def residuals(z: Array) -> tuple[Array, Array]:
        each = _residuals(config, params, carry, x, z)
        return each.sum(), each  # a row's gradient depends on that row alone

    def step(search: _Search, _: None) -> tuple[_Search, None]:
        grads, each = jax.grad(residuals, has_aux=True)(search.z)
        better = each < search.best_residuals
        best_z = jnp.where(better[:, None], search.z, search.best_z)
        updates, adam_state = adam.update(grads, search.adam)
        z = jnp.clip(optax.apply_updates(search.z, updates), -1.0, 1.0)
        return _Search(z, adam_state, best_z, jnp.minimum(each, search.best_residuals)), None

    return jax.lax.scan(step, search, None, length=num_updates)[0]
