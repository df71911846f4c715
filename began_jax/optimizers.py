"""Adam for each network, a learning rate that halves when M_global stalls, and G's average."""

from typing import Any

import jax
import optax
from jax import Array
from jax import numpy as jnp

from began_jax.schema import OptimConfig

Tree = Any


def init_adam(config: OptimConfig, params: Tree) -> optax.OptState:
    """Adam's moments and count for one network."""
    return _adam(config).init(params)


def descend(
    config: OptimConfig, params: Tree, grads: Tree, adam: optax.OptState, learning_rate: Array
) -> tuple[Tree, optax.OptState]:
    """One step of Adam (bias-corrected, ε = 1e-8 outside the root) for one network."""
    direction, adam = _adam(config).update(grads, adam)
    params = jax.tree.map(lambda p, d: p - learning_rate * d, params, direction)
    return params, adam


def init_plateau(config: OptimConfig) -> optax.OptState:
    """The state of the plateau rule; its `scale` is 1."""
    return _plateau(config).init(jnp.float32(0.0))


def update_plateau(config: OptimConfig, state: optax.OptState, m_global: Array) -> optax.OptState:
    """Feeds one step's M_global; the next step's learning rate is learning_rate · state.scale.

    The paper does not say what a stall is. The first author's library compares the mean over an
    epoch of about 16,000 steps with the previous epoch's and halves unless it fell by 1e-4. optax
    compares with the best window so far and leaves that as it is when a window fell by less: it
    halves later where M_global creeps down, and sooner after a window that got worse.
    """
    _, state = _plateau(config).update(jnp.float32(0.0), state, value=m_global)
    return state


def halve(config: OptimConfig, state: optax.OptState) -> optax.OptState:
    """The plateau rule's state with half the scale, though not below the floor."""
    lowest = config.min_learning_rate / config.learning_rate
    return state._replace(scale=jnp.maximum(state.scale / 2, lowest))


def update_average(
    config: OptimConfig, average: Tree | None, params: Tree, batch_size: int
) -> Tree | None:
    """Exponential moving average whose memory halves every `ema_half_life_images` images.

    None, where the run keeps no average, stays None.
    """
    if average is None:
        return None
    decay = 0.5 ** (batch_size / config.ema_half_life_images)
    return optax.incremental_update(params, average, step_size=1.0 - decay)


def _adam(config: OptimConfig) -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=config.b1, b2=config.b2)


def _plateau(config: OptimConfig) -> optax.GradientTransformationExtraArgs:
    return optax.contrib.reduce_on_plateau(
        factor=0.5,
        patience=1,
        rtol=0.0,
        atol=config.decay_threshold,
        accumulation_size=config.decay_window_steps,
        min_scale=config.min_learning_rate / config.learning_rate,
    )
