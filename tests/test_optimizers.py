import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from began_jax import optimizers
from tests.conftest import make_config


def optim(**overrides):
    return make_config(**{f"optim__{name}": value for name, value in overrides.items()}).optim


def test_descend_is_adam():
    config = optim(b1=0.8, b2=0.99)
    reference = optax.adam(0.01, b1=0.8, b2=0.99, eps=1e-8)
    params = expected = {"w": jnp.array([1.0, -2.0]), "b": jnp.array([0.5])}
    state, reference_state = optimizers.init_adam(config, params), reference.init(params)
    for i in range(5):
        grads = jax.tree.map(lambda p, i=i: p * (i - 1.5), params)
        params, state = optimizers.descend(config, params, grads, state, jnp.float32(0.01))
        updates, reference_state = reference.update(grads, reference_state)
        expected = optax.apply_updates(expected, updates)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, expected)


def scales(config, values):
    state = optimizers.init_plateau(config)
    update = jax.jit(lambda state, value: optimizers.update_plateau(config, state, value))
    seen = []
    for value in values:
        state = update(state, jnp.float32(value))
        seen.append(float(state.scale))
    return seen


def test_the_learning_rate_halves_after_a_window_that_is_no_better():
    config = optim(learning_rate=1e-3, min_learning_rate=1e-4, decay_window_steps=3)
    falling, stalled = [0.5, 0.6, 0.4], [0.5, 0.45, 0.55]  # means 0.5 and 0.5
    assert scales(config, falling + stalled + [0.1] * 3) == [1.0] * 5 + [0.5] * 4


def test_a_window_counts_by_its_mean_and_the_threshold():
    config = optim(decay_window_steps=2, decay_threshold=1e-3)
    assert scales(config, [0.5, 0.5, 0.499, 0.4995])[-1] == 0.5  # fell by less than the threshold
    assert scales(config, [0.5, 0.5, 0.499, 0.498])[-1] == 1.0


def test_the_learning_rate_has_a_floor():
    config = optim(learning_rate=1e-3, min_learning_rate=2e-4, decay_window_steps=1)
    assert scales(config, [1.0] * 9)[-1] == pytest.approx(0.2)


def test_the_average_forgets_half_in_its_half_life():
    config = optim(ema_half_life_images=100)
    average = {"w": jnp.zeros(2)}
    for _ in range(25):  # of 4 images
        average = optimizers.update_average(config, average, {"w": jnp.ones(2)}, 4)
    np.testing.assert_allclose(average["w"], 0.5, rtol=1e-5)


def test_no_average_stays_none():
    assert optimizers.update_average(optim(), None, {"w": jnp.ones(2)}, 4) is None


def test_a_rollback_halves_the_rate_down_to_its_floor():
    config = optim(learning_rate=1e-4, min_learning_rate=4e-5)
    state = optimizers.init_plateau(config)
    scales = []
    for _ in range(3):
        state = optimizers.halve(config, state)
        scales.append(float(state.scale))
    assert scales == [0.5, pytest.approx(0.4), pytest.approx(0.4)]
