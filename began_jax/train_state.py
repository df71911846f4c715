"""Everything a run needs to go on exactly: one immutable pytree of arrays."""

from typing import Any

import jax
import optax
from flax import struct
from jax import Array
from jax import numpy as jnp

from began_jax import equilibrium, models, objectives, optimizers, randomness
from began_jax.randomness import Purpose
from began_jax.schema import Config


class TrainState(struct.PyTreeNode):
    """The state between two steps; scalars unless said otherwise."""

    step: Array  # int32, steps done
    seed: Array  # uint32, with `step` and `rollbacks` the source of everything random
    rollbacks: Array  # uint32, how often the run was rolled back
    generator: models.Params
    generator_average: models.Params | None  # None when the moving average is off
    generator_adam: optax.OptState
    discriminator: models.Params
    discriminator_adam: optax.OptState
    equilibrium: equilibrium.EquilibriumState
    plateau: Any  # optax's ReduceLROnPlateauState

    @property
    def sampling_generator(self) -> models.Params:
        """G's moving average where the run keeps one, else G itself."""
        return self.generator if self.generator_average is None else self.generator_average


def is_finite(state: TrainState) -> Array:
    """Whether every parameter, moment and average is a finite number; a bool scalar."""
    leaves = jax.tree.leaves(state.replace(plateau=None))  # whose best value begins at infinity
    return jnp.array([jnp.isfinite(leaf).all() for leaf in leaves]).all()


def roll_back(config: Config, state: TrainState) -> TrainState:
    """The state with half its learning rate (not below the floor) and other latents to come."""
    return state.replace(
        rollbacks=state.rollbacks + 1, plateau=optimizers.halve(config.optim, state.plateau)
    )


def init(config: Config) -> TrainState:
    """The state before the first step, a pure function of the config and its seed."""
    key_generator, key_discriminator = jax.random.split(randomness.key(config.seed, Purpose.INIT))
    generator = models.init_generator(config.model, key_generator)
    objective = objectives.of(config)
    discriminator = models.init_discriminator(
        config.model,
        key_discriminator,
        num_outputs=objective.num_outputs(config.model),
        with_decoder=objective.is_auto_encoder,
    )
    return TrainState(
        step=jnp.int32(0),
        seed=jnp.uint32(config.seed),
        rollbacks=jnp.uint32(0),
        generator=generator,
        generator_average=generator if config.optim.ema_half_life_images else None,
        generator_adam=optimizers.init_adam(config.optim, generator),
        discriminator=discriminator,
        discriminator_adam=optimizers.init_adam(config.optim, discriminator),
        equilibrium=equilibrium.init(config.began.k_init),
        plateau=optimizers.init_plateau(config.optim),
    )
