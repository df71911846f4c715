"""Denoising BEGAN (after Li, Xiao, Ouyang 2018): D restores what noise was added to.

L(v) = mean |v − D(v + σ_t ε)|^η with ε ~ N(0, I), of data and of fakes alike. σ_t is
`objective.noise_level`, falling to 0 over `objective.noise_steps` where these are not 0.
"""

from jax import Array
from jax import numpy as jnp

from began_jax import losses, models
from began_jax.models import Params
from began_jax.objectives.objective import Context, normal, of_energy
from began_jax.schema import Config, ObjectiveConfig


def level(config: ObjectiveConfig, step: Array) -> Array:
    """σ_t in units of the range of pixels, a float32 scalar."""
    if config.noise_steps == 0:
        return jnp.float32(config.noise_level)
    left = 1.0 - step.astype(jnp.float32) / config.noise_steps
    return config.noise_level * jnp.maximum(0.0, left)


def energy(config: Config, d: Params, v: Array, context: Context, keys: Array) -> Array:
    """Return the terms of L(v), see above, for each image."""
    noise = level(config.objective, context.step) * normal(keys, v.shape)
    restored = models.reconstruct(config.model, d, v + noise, context.carry)
    return losses.reconstruction_errors(v, restored, config.began.eta)


OBJECTIVE = of_energy(energy)
