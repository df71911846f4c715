"""One training step: the paper's algorithm as a pure function of the state and a batch."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import Array
from jax import numpy as jnp

from began_jax import (
    data_axis,
    equilibrium,
    gradients,
    models,
    objectives,
    optimizers,
    pixels,
    randomness,
)
from began_jax.models import Params
from began_jax.objectives import Context
from began_jax.randomness import Purpose
from began_jax.schema import Config
from began_jax.train_state import TrainState

Metrics = dict[str, Array]


def train_step(
    config: Config, state: TrainState, images: Array, *, one_exchange: bool = False
) -> tuple[TrainState, Metrics]:
    """Updates D, G and k_t once.

    D and G step from the same parameters, each by its own Adam; k_{t+1} and M_global come from this
    step's L(x) and L(G(z_G)). With `began.alternating`, L(G(z_G)) is taken through the updated D.

    Args:
      config: static.
      state: the state before the step.
      images: uint8 (B, R, R, C), the whole global batch.
      one_exchange: see `data_axis.mean_over_devices`.

    Returns:
      The state after the step and float32 scalars by name; `k` and `learning_rate` are those the
      step used.
    """
    began = config.began
    # After a rollback as if of another seed, so that the redone steps see other latents.
    seed = state.seed + state.rollbacks * jnp.uint32(0x9E3779B9)
    key = randomness.key(seed, Purpose.STEP, state.step)
    key_flip, key_d, key_g = jax.random.split(key, 3)
    x = data_axis.shard(pixels.to_float(images))
    if config.data.flip:
        x = random_flip(key_flip, x)
    z_d = data_axis.shard(models.sample_latents(config.model, key_d, len(images)))
    z_g = z_d
    if not began.shared_z:
        z_g = data_axis.shard(models.sample_latents(config.model, key_g, len(images)))
    objective = objectives.of(config)
    context = Context(
        k=equilibrium.k_t(state.equilibrium, began.lambda_p),
        carry=models.carry_at(config.model, state.step),
        step=state.step,
        key=randomness.key(seed, Purpose.NOISE, state.step),
    )
    learning_rate = config.optim.learning_rate * state.plateau.scale

    def descend(
        params: Params, grads: Params, adam: optax.OptState
    ) -> tuple[Params, optax.OptState]:
        return optimizers.descend(config.optim, params, grads, adam, learning_rate)

    d, g = state.discriminator, state.generator

    def mean(function: Callable[..., Any], *batches: Array) -> Any:
        """Return the mean of `function` over the batch, computed in parts and on all devices."""
        parts = config.train.microbatches
        in_parts = functools.partial(gradients.mean_over_parts, function, parts)
        if one_exchange:
            return data_axis.mean_over_devices(in_parts, *batches)
        return in_parts(*batches)

    if began.shared_z and not began.alternating and objective.energy is not None:
        energy = objective.energy
        joint = mean(lambda x, z: gradients.joint(config, energy, d, g, x, z, context), x, z_g)
        loss_real, loss_fake = joint.loss_real, joint.loss_fake
        new_d, adam_d = descend(d, joint.discriminator, state.discriminator_adam)
        new_g, adam_g = descend(g, joint.generator, state.generator_adam)
    else:
        loss_real, grads_d = mean(
            lambda x, z: gradients.discriminator(config, d, g, x, z, context), x, z_d
        )
        new_d, adam_d = descend(d, grads_d, state.discriminator_adam)
        judge = new_d if began.alternating else d
        loss_fake, grads_g = mean(lambda z: gradients.generator(config, judge, g, z, context), z_g)
        new_g, adam_g = descend(g, grads_g, state.generator_adam)

    m_global = equilibrium.m_global(loss_real, loss_fake, began.gamma)
    new_state = state.replace(
        step=state.step + 1,
        generator=new_g,
        generator_average=optimizers.update_average(
            config.optim, state.generator_average, new_g, len(images)
        ),
        generator_adam=adam_g,
        discriminator=new_d,
        discriminator_adam=adam_d,
        equilibrium=equilibrium.update(
            state.equilibrium, loss_real, loss_fake, gamma=began.gamma, lambda_k=began.lambda_k
        )
        if objective.is_controlled
        else state.equilibrium,
        plateau=optimizers.update_plateau(config.optim, state.plateau, m_global),
    )
    return new_state, {
        "loss_real": loss_real,
        "loss_fake": loss_fake,
        "k": context.k,
        "balance": equilibrium.balance(loss_real, loss_fake, began.gamma),
        "m_global": m_global,
        "learning_rate": learning_rate,
    }


def train_steps(
    config: Config,
    state: TrainState,
    batches: Array,
    num_steps: Array,
    dataset: Array | None,
    *,
    one_exchange: bool = False,
) -> tuple[TrainState, Metrics]:
    """The first `num_steps` of K training steps, one after the other on the device.

    The others are computed too and dropped: so it is one program, which makes the same step
    wherever a dispatch begins and ends (an interrupted run equals an uninterrupted one), and a loop
    of fixed length, which a GPU runs without asking the host. Another K rounds otherwise.

    Args:
      config: static.
      state: the state before the first step.
      batches: uint8 images (K, B, R, R, C), or int32 indices (K, B) of images in `dataset`.
      num_steps: int32, 1 to K.
      dataset: uint8 images as rows (N, R · R · C), or None. A TPU pads the last axis to 128
        values, so 3 channels there would multiply the memory and the time to read it.
      one_exchange: static; see `data_axis.mean_over_devices`.

    Returns:
      The state after the last step and the metrics of all K, (K,) by name.
    """

    def step(state: TrainState, batch: Array) -> tuple[TrainState, Metrics]:
        if dataset is None:
            return train_step(config, state, batch, one_exchange=one_exchange)
        m = config.model
        rows = jnp.take(dataset, batch, axis=0, mode="clip")
        images = rows.reshape(-1, m.resolution, m.resolution, m.channels)
        return train_step(config, state, images, one_exchange=one_exchange)

    def step_if_due(state: TrainState, i_and_batch: tuple[Array, Array]) -> Any:
        i, batch = i_and_batch
        new, metrics = step(state, batch)
        return jax.tree.map(
            lambda old, new: jnp.where(i < num_steps, new, old), state, new
        ), metrics

    if len(batches) > 1:
        return jax.lax.scan(step_if_due, state, (jnp.arange(len(batches)), batches))
    state, metrics = step(state, batches[0])  # XLA:CPU computes more slowly inside a loop
    return state, jax.tree.map(lambda value: value[None], metrics)


def random_flip(key: Array, images: Array) -> Array:
    """Mirrors each of (B, H, W, C) left to right with probability 1/2."""
    flip = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(flip, images[:, :, ::-1], images)
