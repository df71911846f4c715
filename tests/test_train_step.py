import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from began_jax import equilibrium, train_state
from began_jax.train_step import random_flip, train_step
from tests.conftest import make_config


def batch(config, seed=0):
    m = config.model
    shape = (config.train.batch_size, m.resolution, m.resolution, m.channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@functools.cache
def compiled(config):
    return jax.jit(functools.partial(train_step, config))


def run(config, num_steps=1, state=None, seed=0):
    state = train_state.init(config) if state is None else state
    for _ in range(num_steps):
        state, metrics = compiled(config)(state, batch(config, seed))
    return state, metrics


def assert_trees_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def differ(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return any(not np.array_equal(x, y) for x, y in leaves)


def with_k(state, k):
    return state.replace(equilibrium=equilibrium.init(k))


def test_a_seed_gives_the_same_run_twice_and_another_seed_another():
    config, other = make_config(seed=1), make_config(seed=2)
    assert_trees_equal(run(config, 3), run(config, 3))
    assert differ(run(config, 3)[0].generator, run(other, 3)[0].generator)


def test_g_does_not_depend_on_k_or_the_images():
    config = make_config()
    state = train_state.init(config)
    reference, _ = run(config, 1, with_k(state, 0.0))
    for changed in (run(config, 1, with_k(state, 0.9)), run(config, 1, with_k(state, 0.0), seed=9)):
        assert_trees_equal(reference.generator, changed[0].generator)
        assert differ(reference.discriminator, changed[0].discriminator)


def test_k_and_the_metrics_follow_from_the_two_losses():
    config = make_config(began__gamma=0.6, began__lambda_k=0.1, began__k_init=0.3)
    state, metrics = run(config)
    m = {name: float(value) for name, value in metrics.items()}
    balance = 0.6 * m["loss_real"] - m["loss_fake"]
    assert m["k"] == pytest.approx(0.3)
    assert m["balance"] == pytest.approx(balance, rel=1e-5)
    assert m["m_global"] == pytest.approx(m["loss_real"] + abs(balance), rel=1e-5)
    assert float(state.equilibrium.k) == pytest.approx(0.3 + 0.1 * balance, rel=1e-5)
    assert float(state.plateau.avg_value) == pytest.approx(m["m_global"], rel=1e-6)


def test_alternating_sends_gs_gradient_through_the_updated_d():
    usual, alternating = make_config(), make_config(began__alternating=True)
    a, b = run(usual)[0], run(alternating)[0]
    assert_trees_equal(a.discriminator, b.discriminator)
    assert differ(a.generator, b.generator)


def test_shared_z_is_one_draw_and_the_default_two():
    # A shared draw is z_D's; alternating keeps both on the paper's form of the gradients.
    config = make_config(began__alternating=True)
    shared = make_config(began__alternating=True, began__shared_z=True)
    assert not config.began.shared_z
    a, b = run(config)[0], run(shared)[0]
    assert_trees_equal(a.discriminator, b.discriminator)
    assert differ(a.generator, b.generator)


def test_every_leaf_of_the_state_moves():
    config = make_config(began__k_init=0.5)
    before = train_state.init(config)
    after, _ = run(config, 2, before)
    moved = {
        jax.tree_util.keystr(path): not np.array_equal(a, b)
        for (path, a), b in zip(
            jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True
        )
    }
    still = {name for name, has_moved in moved.items() if not has_moved}
    # The seed and the rollbacks never move; the plateau's verdicts wait for its first window's end.
    expected = {".seed", ".rollbacks"} | {
        f".plateau.{name}" for name in ("scale", "best_value", "plateau_count", "cooldown_count")
    }
    assert still == expected
    assert int(after.step) == 2


def test_the_plateau_scales_the_step():
    config = make_config()
    state = train_state.init(config)
    halved = state.replace(plateau=state.plateau._replace(scale=jnp.float32(0.5)))
    (full, _), (half, metrics) = run(config, 1, state), run(config, 1, halved)
    assert float(metrics["learning_rate"]) == pytest.approx(0.5 * config.optim.learning_rate)
    start = state.generator["conv_out"]["kernel"]
    moved = [np.asarray(s.generator["conv_out"]["kernel"] - start) for s in (full, half)]
    # Differences of float32 weights of size 0.3 carry rounding of 3e-8 against a step of 1e-4.
    np.testing.assert_allclose(moved[1], 0.5 * moved[0], atol=6e-8)


def test_without_an_average_samples_come_from_g_itself():
    state, _ = run(make_config(optim__ema_half_life_images=0))
    assert state.generator_average is None
    assert state.sampling_generator is state.generator
    kept, _ = run(make_config())
    assert kept.sampling_generator is kept.generator_average


def test_flip_mirrors_about_half_of_the_images_and_nothing_else():
    images = jnp.asarray(np.random.default_rng(0).random((200, 4, 4, 3), np.float32))
    flipped = np.asarray(random_flip(jax.random.key(0), images))
    same = (flipped == np.asarray(images)).all(axis=(1, 2, 3))
    mirrored = (flipped == np.asarray(images)[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all()
    assert 70 < mirrored.sum() < 130  # 4 standard deviations of a fair coin


def test_flip_is_a_switch():
    usual, flipping = make_config(), make_config(data__flip=True)
    assert differ(run(usual)[0].discriminator, run(flipping)[0].discriminator)


def test_after_a_rollback_a_step_sees_other_latents_and_the_same_images():
    config = make_config()
    state = train_state.init(config)
    step = jax.jit(functools.partial(train_step, config))
    _, first = step(state, batch(config))
    _, redone = step(state.replace(rollbacks=state.rollbacks + 1), batch(config))
    assert redone["loss_real"] == first["loss_real"]
    assert redone["loss_fake"] != first["loss_fake"]
