import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import numpy as jnp

from began_jax import equilibrium

losses = st.floats(0, 10, width=32)
fractions = st.floats(0, 1, width=32)


def step(k, loss_real, loss_fake, gamma=0.5, lambda_k=0.01):
    state = equilibrium.update(
        equilibrium.init(k),
        jnp.float32(loss_real),
        jnp.float32(loss_fake),
        gamma=gamma,
        lambda_k=lambda_k,
    )
    return float(state.k)


def test_k_follows_the_equation():
    assert step(0.2, 0.8, 0.1) == pytest.approx(0.2 + 0.01 * (0.5 * 0.8 - 0.1), rel=1e-6)


def test_k_starts_where_it_is_told():
    assert float(equilibrium.init(0.25).k) == 0.25


def test_k_meets_both_clips():
    assert step(0.0, 0.0, 1.0) == 0.0
    assert step(1.0, 1.0, 0.0) == 1.0


@given(fractions, losses, losses, fractions)
def test_k_never_leaves_the_unit_interval(k, loss_real, loss_fake, gamma):
    assert 0.0 <= step(k, loss_real, loss_fake, gamma, lambda_k=1.0) <= 1.0


@given(fractions, st.floats(0, 10, width=16))
def test_the_fixed_point_leaves_k_alone(k, loss_real):
    assert step(k, loss_real, 0.5 * loss_real) == k


@given(losses, losses, fractions)
def test_m_global_is_loss_real_plus_the_distance_from_equilibrium(loss_real, loss_fake, gamma):
    m = float(equilibrium.m_global(jnp.float32(loss_real), jnp.float32(loss_fake), gamma))
    # Float32 rounding of three operations on numbers up to 10.
    assert m == pytest.approx(loss_real + abs(gamma * loss_real - loss_fake), abs=5e-6)
