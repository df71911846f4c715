"""Images out of a train state: samples from latents, reconstructions of images."""

from jax import Array
from jax import numpy as jnp

from began_jax import models, pixels, randomness
from began_jax.config import Config
from began_jax.randomness import Purpose
from began_jax.train_state import TrainState


def fixed_samples(config: Config, state: TrainState) -> tuple[Array, Array]:
    """The run's `train.num_samples` samples of latents that depend on its seed alone.

    Returns float32 (num_samples, R, R, C) around [−0.5, 0.5], by G's moving average if there is
    one, and their `spread`.
    """
    key = randomness.key(state.seed, Purpose.SAMPLES)
    z = models.sample_latents(config.model, key, config.train.num_samples)
    carry = models.carry_at(config.model, state.step)
    samples = models.generate(config.model, state.sampling_generator, z, carry)
    return samples, spread(samples)


def reconstructions(config: Config, state: TrainState, images: Array) -> Array:
    """D(x) of uint8 images (N, R, R, C): float32 around [−0.5, 0.5]."""
    carry = models.carry_at(config.model, state.step)
    return models.reconstruct(config.model, state.discriminator, pixels.to_float(images), carry)


def spread(images: Array) -> Array:
    """How far images (N, H, W, C) differ from one another: √(mean over pixels of the variance
    over the N images), in the unit of the pixels; 0 when all are the same."""
    return jnp.sqrt(jnp.mean(jnp.var(images, axis=0)))
