"""Images out of a train state: samples from latents, reconstructions of images."""

import functools
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp

from began_jax import blocks, data_axis, models, objectives, pixels, randomness
from began_jax.randomness import Purpose
from began_jax.schema import Config, ModelConfig
from began_jax.train_state import TrainState


def samples(
    config: Config, state: TrainState, num: int, *, seed: int = 0, average: bool = True
) -> Iterator[np.ndarray]:
    """Sample i of a seed, for i from 0 to num − 1: a function of (state, seed, i) alone.

    Yields uint8 (B, R, R, C), by G's moving average, where the run keeps one and `average` asks for
    it, else by G itself. B is at most 64 for each device.
    """
    z = latents(config, seed, range(num))
    params, carry = _sampling(config, state, average=average)
    function = functools.partial(_generate, config.model)
    yield from map(pixels.to_uint8, blocks.each(function, z, params, carry))


def latents(config: Config, seed: int, indices: Sequence[int]) -> np.ndarray:
    """The latents (len(indices), N_z) of the samples with these indices."""
    function = functools.partial(_latents, config.model)
    return blocks.map_rows(function, np.array(indices), np.uint32(seed))


def from_latents(
    config: Config, state: TrainState, z: np.ndarray, *, average: bool = True
) -> np.ndarray:
    """G of latents (N, N_z): uint8 (N, R, R, C)."""
    params, carry = _sampling(config, state, average=average)
    function = functools.partial(_generate, config.model)
    return pixels.to_uint8(blocks.map_rows(function, z, params, carry))


def reconstructed(config: Config, state: TrainState, images: np.ndarray) -> np.ndarray:
    """D(x) of uint8 images (N, R, R, C): float32 (N, R, R, C) around [−0.5, 0.5]."""
    # D alone: what is passed on is copied to every device.
    d, carry = state.discriminator, models.carry_at(config.model, state.step)
    return blocks.map_rows(functools.partial(_reconstruct, config), images, d, carry)


def interpolate(a: np.ndarray, b: np.ndarray, num: int, *, spherical: bool = False) -> np.ndarray:
    """`num` latents from each of a (N, N_z) to its partner in b: (N, num, N_z), the ends included.

    Linear, or along the great circle between their directions while the length changes linearly
    (Shoemake 1985), cut to [−1, 1].
    """
    t = np.linspace(0.0, 1.0, num, dtype=np.float32)[None, :, None]
    a, b = a[:, None], b[:, None]
    if not spherical:
        return (1 - t) * a + t * b
    length_a, length_b = (np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
    cosine = np.clip(np.sum(a / length_a * (b / length_b), -1, keepdims=True), -1.0, 1.0)
    angle = np.maximum(np.arccos(cosine), 1e-6)
    direction = (
        np.sin((1 - t) * angle) * a / length_a + np.sin(t * angle) * b / length_b
    ) / np.sin(angle)
    # Between uniform latents a great circle leaves the cube that G was trained on: back onto it.
    return np.clip(((1 - t) * length_a + t * length_b) * direction, -1.0, 1.0)


def fixed_samples(config: Config, state: TrainState) -> tuple[Array, Array, Array]:
    """The run's `train.num_samples` samples of latents that depend on its seed alone.

    Returns float32 (num_samples, R, R, C) around [−0.5, 0.5], by G's moving average if there is
    one; their `spread`; the share of their values outside that range.
    """
    key = randomness.key(state.seed, Purpose.SAMPLES)
    z = data_axis.shard(models.sample_latents(config.model, key, config.train.num_samples))
    carry = models.carry_at(config.model, state.step)
    samples = models.generate(config.model, state.sampling_generator, z, carry)
    return samples, spread(samples), jnp.mean(jnp.abs(samples) > 0.5)


def reconstructions(config: Config, state: TrainState, images: Array) -> Array | None:
    """D(x) of uint8 images (N, R, R, C): float32 around [−0.5, 0.5]; None of a critic."""
    if not objectives.of(config).is_auto_encoder:
        return None
    carry = models.carry_at(config.model, state.step)
    return _reconstructions(config, state.discriminator, carry, images)


def spread(images: Array) -> Array:
    """How far images (N, H, W, C) differ from one another: √(mean over pixels of the variance
    over the N images), in the unit of the pixels; 0 when all are the same."""
    return jnp.sqrt(jnp.mean(jnp.var(images, axis=0)))


def _sampling(
    config: Config, state: TrainState, *, average: bool
) -> tuple[models.Params, Array | None]:
    """Return the parameters to sample with, and the vanishing residual's weight."""
    params = state.sampling_generator if average else state.generator
    return params, models.carry_at(config.model, state.step)


def _generate_from(
    config: ModelConfig, params: models.Params, carry: Array | None, z: Array
) -> Array:
    return models.generate(config, params, z, carry)


def _sample_latents(config: ModelConfig, seed: Array, indices: Array) -> Array:
    def one(index: Array) -> Array:
        key = randomness.key(seed, Purpose.GENERATION, index)
        return models.sample_latents(config, key, 1)[0]

    return jax.vmap(one)(indices)


def _reconstructions(config: Config, d: models.Params, carry: Array | None, images: Array) -> Array:
    x = data_axis.shard(pixels.to_float(images))
    return models.reconstruct(config.model, d, x, carry)


# Once a config, so that other seeds and checkpoints compile nothing.
_latents = jax.jit(_sample_latents, static_argnums=0)
_generate = jax.jit(_generate_from, static_argnums=0)
_reconstruct = jax.jit(_reconstructions, static_argnums=0)
