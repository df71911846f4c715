"""The controller that holds L(G(z)) at γ L(x), and the measure M_global.

The paper calls it proportional; as k_t sums the errors up, it integrates them.

`init(...) -> state` and `update(state, ...) -> state` follow optax's contract, so that the
controller serves any pair of a real and a fake loss. All values are float32 scalars.
"""

from typing import NamedTuple

from jax import Array
from jax import numpy as jnp


class EquilibriumState(NamedTuple):
    """The controller's state."""

    k: Array  # the integral part of k_t, in [0, 1]; all of it where λ_p = 0
    balance: Array  # the last step's γ L(x) − L(G(z_G))


def init(k_init: float) -> EquilibriumState:
    """The state that holds k_0; the paper's is 0."""
    return EquilibriumState(k=jnp.float32(k_init), balance=jnp.float32(0.0))


def k_t(state: EquilibriumState, lambda_p: float) -> Array:
    """k_t, by which L_D weighs the fakes; with λ_p = 0 the paper's.

    An integrating controller lags. A part in proportion to the last error,
    k_t = clip(k + λ_p (γ L(x) − L(G(z_G))), 0, 1), answers at once.
    """
    return jnp.clip(state.k + lambda_p * state.balance, 0.0, 1.0)


def balance(loss_real: Array, loss_fake: Array, gamma: float) -> Array:
    """γ L(x) − L(G(z)), the distance from the equilibrium; 0 at it."""
    return gamma * loss_real - loss_fake


def update(
    state: EquilibriumState, loss_real: Array, loss_fake: Array, *, gamma: float, lambda_k: float
) -> EquilibriumState:
    """k_{t+1} = clip(k_t + λ_k (γ L(x) − L(G(z_G))), 0, 1)."""
    error = balance(loss_real, loss_fake, gamma)
    return EquilibriumState(k=jnp.clip(state.k + lambda_k * error, 0.0, 1.0), balance=error)


def m_global(loss_real: Array, loss_fake: Array, gamma: float) -> Array:
    """M_global = L(x) + |γ L(x) − L(G(z_G))|, the measure of convergence; lower is better."""
    return loss_real + jnp.abs(balance(loss_real, loss_fake, gamma))
