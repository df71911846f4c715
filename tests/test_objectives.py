"""Each objective beside BEGAN's: closed forms, brute force, and what its gradients reach."""

import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from began_jax import (
    equilibrium,
    gradients,
    models,
    objectives,
    pixels,
    randomness,
    train_state,
)
from began_jax.config import ConfigError
from began_jax.objectives import (
    began,
    began_cs,
    denoising,
    ebgan,
    hinge,
    variational,
)
from began_jax.randomness import Purpose
from began_jax.rules import OBJECTIVES
from began_jax.train_step import train_step
from tests.conftest import make_config, some_slow
from tests.test_gradients import context, largest, setup


def config_of(name, **overrides):
    return make_config(objective__name=name, model__n_h=5, **overrides)


def images(seed, num=3):
    return jax.random.uniform(jax.random.key(seed), (num, 16, 16, 3)) - 0.5


def discriminator_of(config, seed=0):
    objective = objectives.of(config)
    return models.init_discriminator(
        config.model,
        jax.random.key(seed),
        num_outputs=objective.num_outputs(config.model),
        with_decoder=objective.is_auto_encoder,
    )


def assert_every_parameter_moved(before, after):
    for part in ("generator", "discriminator"):
        pairs = zip(
            jax.tree.leaves(getattr(before, part)),
            jax.tree.leaves(getattr(after, part)),
            strict=True,
        )
        assert all((a != b).any() for a, b in pairs)


def test_every_name_that_a_config_takes_is_an_objective():
    for name in OBJECTIVES:
        assert objectives.of(config_of(name)).discriminator


# So that EBGAN's hinge is open, and D's loss sees the fakes.
OPEN = {"objective__margin": 100.0}


# Those left out are also in the steps of other tests, or parts of another objective's.
@pytest.mark.parametrize("name", some_slow(OBJECTIVES, {"began", "denoising", "ebgan"}))
def test_a_step_moves_both_networks_and_is_finite(name):
    config = config_of(name, began__k_init=0.3, model__carry_steps=0, **OPEN)
    state = train_state.init(config)
    batch = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    after, metrics = jax.jit(lambda state: train_step(config, state, batch))(state)
    assert_every_parameter_moved(state, after)
    assert all(np.isfinite(value) for value in metrics.values())
    moved = float(after.equilibrium.k) != float(state.equilibrium.k)
    assert moved == objectives.of(config).is_controlled


# The one that is made of another one's, and could keep its `energy`; the others take half a minute.
@pytest.mark.parametrize("name", some_slow(OBJECTIVES, {*OBJECTIVES} - {"began_cs"}))
def test_a_step_with_one_draw_of_z_takes_the_objectives_own_gradients(name):
    """The way of both gradients in one pass is only for objectives that have an `energy`."""
    config = config_of(name, began__k_init=0.3, began__shared_z=True, data__flip=False, **OPEN)
    state = train_state.init(config)
    batch = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)

    @jax.jit
    def both(state):
        key = randomness.key(state.seed, Purpose.STEP, state.step)
        z = models.sample_latents(config.model, jax.random.split(key, 3)[1], len(batch))
        noise = randomness.key(state.seed, Purpose.NOISE, state.step)
        carry = models.carry_at(config.model, state.step)
        now = objectives.Context(state.equilibrium.k, carry, state.step, noise)
        d, g = state.discriminator, state.generator
        _, grads_d = gradients.discriminator(config, d, g, pixels.to_float(batch), z, now)
        _, grads_g = gradients.generator(config, d, g, z, now)
        return train_step(config, state, batch)[0], grads_d, grads_g

    after, grads_d, grads_g = both(state)
    for adam, grads in ((after.discriminator_adam, grads_d), (after.generator_adam, grads_g)):
        scale = largest(grads)
        assert scale > 1e-3
        jax.tree.map(
            lambda mu, grad, scale=scale: np.testing.assert_allclose(
                10 * mu, grad, atol=1e-5 * scale, rtol=1e-4
            ),
            adam.mu,  # the first step's: (1 − β1) times the gradient
            grads,
        )


def test_a_step_s_noise_is_of_the_step_and_falls_with_it():
    """Two steps that differ in their number alone."""
    config = config_of(
        "denoising", objective__noise_level=0.5, objective__noise_steps=10, model__carry_steps=0
    )
    plain = config_of("began", model__carry_steps=0)
    batch = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)

    @functools.partial(jax.jit, static_argnums=0)
    def loss(config, step):
        state = train_state.init(config).replace(step=step)
        return train_step(config, state, batch)[1]["loss_real"]

    noisy = [float(loss(config, jnp.int32(step))) for step in (0, 1, 10)]
    assert len({*noisy}) == 3
    assert noisy[2] == pytest.approx(float(loss(plain, jnp.int32(10))), rel=1e-6)
    constant = config_of("denoising", objective__noise_level=0.5, model__carry_steps=0)
    first, second = (float(loss(constant, jnp.int32(step))) for step in (0, 1))
    assert first != second  # of the same level


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gs_gradient_is_that_of_its_loss_through_the_fakes_alone(name):
    config, d, g, _, z, _ = setup(objective__name=name, model__n_h=5)
    now = context(0.3)
    _, grads = gradients.generator(config, d, g, z, now)
    fake, pull_back = jax.vjp(lambda g: models.generate(config.model, g, z, None), g)
    of_fake = jax.grad(lambda v: objectives.of(config).generator(config, d, v, now)[0])(fake)
    assert largest(of_fake) > 0
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7),
        grads,
        pull_back(of_fake)[0],
    )


# BEGAN.


# η, and the vanishing residual's weight: every closed form holds at each.
FORMS = pytest.mark.parametrize(("eta", "carry"), [(1, None), (2, None), (1, jnp.float32(0.25))])


@FORMS
def test_began_is_the_papers_two_losses(eta, carry):
    config = config_of("began", began__eta=eta)
    d, x, fake = discriminator_of(config), images(1), images(2)
    objective, now = objectives.of(config), context(0.25, carry)

    def error(v):
        rest = np.asarray(v) - models.reconstruct(config.model, d, v, carry)
        return (np.abs(rest) ** eta).mean()

    loss, loss_real = objective.discriminator(config, d, x, fake, None, now)
    assert float(loss_real) == pytest.approx(error(x), rel=1e-5)
    assert float(loss) == pytest.approx(error(x) - 0.25 * error(fake), rel=1e-5)
    assert objective.generator(config, d, fake, now) == pytest.approx([error(fake)] * 2, rel=1e-5)


# EBGAN.


def slow_pulling_away(codes):
    codes = np.asarray(codes, np.float64).reshape(len(codes), -1)
    total, num = 0.0, len(codes)
    for i in range(num):
        for j in range(num):
            if i != j:
                a, b = codes[i], codes[j]
                total += (a @ b / (np.sqrt(a @ a) * np.sqrt(b @ b))) ** 2
    return total / (num * (num - 1))


def test_pulling_away_is_the_double_loop():
    codes = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    assert float(ebgan.pulling_away(codes)) == pytest.approx(slow_pulling_away(codes), rel=1e-5)


def test_pulling_aways_gradient_is_that_of_the_double_loop():
    codes = np.random.default_rng(1).standard_normal((4, 3))
    grads = np.asarray(jax.grad(ebgan.pulling_away)(jnp.asarray(codes, jnp.float32)))
    h = 1e-5
    for place in np.ndindex(codes.shape):
        moved = [codes.copy(), codes.copy()]
        moved[0][place] += h
        moved[1][place] -= h
        slope = (slow_pulling_away(moved[0]) - slow_pulling_away(moved[1])) / (2 * h)
        assert grads[place] == pytest.approx(slope, rel=1e-3, abs=1e-5)


def test_pulling_away_in_closed_form():
    assert float(ebgan.pulling_away(jnp.eye(4))) == 0.0  # all at right angles
    alike = jnp.array([[1.0, 2.0], [-2.0, -4.0], [0.5, 1.0]])  # a cosine's sign does not matter
    assert float(ebgan.pulling_away(alike)) == pytest.approx(1.0, rel=1e-6)
    at_60_degrees = jnp.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
    assert float(ebgan.pulling_away(at_60_degrees)) == pytest.approx(0.25, rel=1e-6)
    dead = jnp.zeros((2, 3))
    assert float(ebgan.pulling_away(dead)) == 0.0
    assert np.isfinite(jax.grad(ebgan.pulling_away)(dead)).all()


@FORMS
def test_ebgans_hinge_is_of_each_image_and_not_of_their_mean(eta, carry):
    d, x, fake = discriminator_of(config_of("ebgan")), images(1), images(2)
    fake = fake.at[0].multiply(3.0)
    model, now = config_of("ebgan").model, context(0, carry)

    def energies(v):
        rest = np.asarray(v) - models.reconstruct(model, d, v, carry)
        return (np.abs(rest) ** eta).mean((1, 2, 3))

    of_fakes = energies(fake)
    margin = float((of_fakes.min() + of_fakes.max()) / 2)
    config = config_of("ebgan", objective__margin=margin, began__eta=eta)
    loss, loss_real = objectives.of(config).discriminator(config, d, x, fake, None, now)
    assert float(loss_real) == pytest.approx(energies(x).mean(), rel=1e-5)
    expected = loss_real + np.maximum(0, margin - of_fakes).mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    of_mean = loss_real + max(0, margin - float(of_fakes.mean()))
    assert abs(float(loss) - float(of_mean)) > 1e-3
    of_g = objectives.of(config).generator(config, d, fake, now)
    assert of_g == pytest.approx([of_fakes.mean()] * 2, rel=1e-5)


def test_with_an_endless_margin_ebgan_is_began_at_k_1():
    far = config_of("ebgan", objective__margin=100.0)
    d, x, fake = discriminator_of(far), images(1), images(2)

    def loss_and_gradient(name, k):
        config = config_of(name, objective__margin=100.0)

        def loss(d):
            return objectives.of(config).discriminator(config, d, x, fake, None, context(k))[0]

        return jax.value_and_grad(loss)(d)

    (ebgans, grads), (begans, expected) = (
        loss_and_gradient("ebgan", 0.0),
        loss_and_gradient("began", 1.0),
    )
    assert float(ebgans) == pytest.approx(float(begans) + 100, rel=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), grads, expected
    )


@pytest.mark.parametrize("carry", [None, jnp.float32(0.25)])
def test_ebgan_pt_adds_the_term_to_gs_loss_alone(carry):
    config, plain = config_of("ebgan_pt", objective__pt_weight=0.3), config_of("ebgan")
    d, x, fake = discriminator_of(config), images(1), images(2)
    now = context(0, carry)
    both = [objectives.of(c).generator(c, d, fake, now) for c in (config, plain)]
    codes = models.encode(config.model, d, fake, carry)
    expected = float(both[1][0]) + 0.3 * slow_pulling_away(codes)
    assert float(both[0][0]) == pytest.approx(expected, rel=1e-5)
    assert float(both[0][1]) == float(both[1][1])
    of_d = [objectives.of(c).discriminator(c, d, x, fake, None, now) for c in (config, plain)]
    assert of_d[0] == of_d[1]


@pytest.mark.parametrize("name", ["ebgan_pt", "denoising", "variational"])
def test_what_is_of_the_whole_batch_is_not_computed_in_parts(name):
    # The same key would give all parts the same noise.
    with pytest.raises(ConfigError, match="its noise or its term is of the whole batch"):
        config_of(name, train__microbatches=2)


# BEGAN-CS.


@pytest.mark.parametrize("carry", [None, jnp.float32(0.25)])
def test_the_latent_constraint_is_the_encoders_distance_from_z(carry):
    config = config_of("began_cs", objective__cs_weight=0.5)
    d, x, fake = discriminator_of(config), images(1), images(2)
    z = models.sample_latents(config.model, jax.random.key(3), 3)
    h = np.asarray(models.encode(config.model, d, fake, carry))
    expected = np.mean([abs(h[i, j] - z[i, j]) for i in range(3) for j in range(5)])
    found = float(began_cs.constraint(jnp.asarray(h), z))
    assert found == pytest.approx(expected, rel=1e-5)
    plain, now = config_of("began"), context(0.4, carry)
    base, _ = objectives.of(plain).discriminator(plain, d, x, fake, z, now)
    loss, _ = objectives.of(config).discriminator(config, d, x, fake, z, now)
    assert float(loss - base) == pytest.approx(0.5 * expected, rel=1e-4)


def test_codes_that_are_to_be_latents_have_their_size():
    with pytest.raises(ConfigError, match=r"model\.n_h \(6\) and model\.n_z \(5\) must be equal"):
        make_config(objective__name="began_cs")


# Denoising.


def test_the_noise_is_ds_input_s_alone_and_falls_to_nothing():
    config = config_of("denoising", objective__noise_level=0.2, objective__noise_steps=100)
    assert [float(denoising.level(config.objective, jnp.int32(s))) for s in (0, 50, 100, 900)] == (
        pytest.approx([0.2, 0.1, 0.0, 0.0])
    )
    constant = config_of("denoising", objective__noise_level=0.2)
    assert float(denoising.level(constant.objective, jnp.int32(900))) == pytest.approx(0.2)

    d, v, key = discriminator_of(config), images(1), jax.random.key(5)
    noisy = v + 0.1 * jax.random.normal(key, v.shape)
    for eta, carry in ((1, None), (2, None), (1, jnp.float32(0.25))):
        form = config_of("denoising", objective__noise_level=0.1, began__eta=eta)
        rest = v - models.reconstruct(config.model, d, noisy, carry)
        found = float(denoising.energy(form, d, v, context(0, carry), key[None]).mean())
        assert found == pytest.approx(float((np.abs(rest) ** eta).mean()), rel=1e-5)
    now = context(0)._replace(step=jnp.int32(50))
    expected = np.abs(v - models.reconstruct(config.model, d, noisy, None)).mean()
    found = denoising.energy(config, d, v, now, key[None])
    assert float(found.mean()) == pytest.approx(expected, rel=1e-5)
    without = denoising.energy(config, d, v, now._replace(step=jnp.int32(100)), key[None])
    np.testing.assert_array_equal(without, began.energy(config, d, v, now, key[None]))


def test_data_and_fakes_get_different_noise_and_every_step_anew():
    config = config_of("denoising", objective__noise_level=0.5)
    d, v = discriminator_of(config), images(1)
    loss, loss_real = objectives.of(config).discriminator(config, d, v, v, None, context(1.0))
    assert float(loss) != 0.0  # L(x) − L(G(z)) of the same images
    other = context(1.0)._replace(key=jax.random.key(8))
    assert objectives.of(config).discriminator(config, d, v, v, None, other)[1] != loss_real


# Variational.


def test_the_divergence_in_closed_form():
    mean, log_variance = jnp.array([[0.0, 0.0], [1.0, -2.0]]), jnp.zeros((2, 2))
    assert variational.divergence(mean, log_variance).tolist() == pytest.approx([0.0, 2.5])
    wide = variational.divergence(jnp.zeros((1, 1)), jnp.full((1, 1), np.log(4.0)))
    assert wide.tolist() == pytest.approx([0.5 * (4 - 1 - np.log(4))])


def test_the_divergence_is_the_mean_log_ratio_of_the_densities():
    mean, log_variance = jnp.array([[0.3, -0.5]]), jnp.array([[0.2, -0.8]])
    h = mean + jnp.exp(log_variance / 2) * jax.random.normal(jax.random.key(0), (200_000, 2))
    log_q = -0.5 * ((h - mean) ** 2 / jnp.exp(log_variance) + log_variance).sum(1)
    log_p = -0.5 * (h**2).sum(1)
    # The deviation of the estimate is about 0.001.
    found = float(variational.divergence(mean, log_variance)[0])
    assert found == pytest.approx(float((log_q - log_p).mean()), abs=0.006)


@FORMS
def test_a_variational_ds_loss_is_error_and_divergence_per_value(eta, carry):
    config = config_of("variational", objective__kl_weight=0.7, began__eta=eta)
    d, v, key = discriminator_of(config), images(1), jax.random.key(5)
    mean, log_variance = np.split(np.asarray(models.encode(config.model, d, v, carry)), 2, axis=1)
    assert mean.shape == (3, 5)
    h = mean + np.exp(log_variance / 2) * np.asarray(jax.random.normal(key, mean.shape))
    error = (np.abs(v - models.decode(config.model, d, h, carry)) ** eta).mean()
    kl = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance).sum(1).mean()
    found = float(variational.energy(config, d, v, context(0, carry), key[None]).mean())
    assert found == pytest.approx(float(error) + 0.7 * kl / (16 * 16 * 3), rel=1e-5)
    # Without noise: by the mean.
    expected = models.decode(config.model, d, mean, carry)
    reconstructed = models.reconstruct(config.model, d, v, carry)
    np.testing.assert_allclose(reconstructed, expected, rtol=1e-5, atol=1e-6)


# The critic.


@pytest.mark.parametrize("carry", [None, jnp.float32(0.25)])
def test_the_hinge_in_closed_form(carry):
    config = config_of("hinge")
    d, x, fake = discriminator_of(config), images(1, 12), images(2, 12)
    # Moved and stretched so that some are within each hinge and some beyond.
    values = np.asarray(models.encode(config.model, d, x, carry))[:, 0]
    d["encoder"]["fc"] = jax.tree.map(lambda w: w / values.std(), d["encoder"]["fc"])
    d["encoder"]["fc"]["bias"] -= values.mean() / values.std() - 1
    now = context(0, carry)
    real, fakes = (np.asarray(models.encode(config.model, d, v, carry))[:, 0] for v in (x, fake))
    for inside in (real < 1, fakes > -1):
        assert 0 < inside.sum() <= 12
    assert (real > 1).any()
    np.testing.assert_array_equal(hinge.critic(config, d, x, carry), real)
    loss, loss_real = objectives.of(config).discriminator(config, d, x, fake, None, now)
    expected_real, expected_fake = np.maximum(0, 1 - real).mean(), np.maximum(0, 1 + fakes).mean()
    assert float(loss_real) == pytest.approx(expected_real, rel=1e-5)
    assert float(loss) == pytest.approx(expected_real + expected_fake, rel=1e-5)
    of_g = objectives.of(config).generator(config, d, fake, now)
    assert of_g == pytest.approx((-fakes.mean(), expected_fake), rel=1e-5)
    assert set(d) == {"encoder"}


# The controller's proportional part.


def test_the_proportional_part_answers_the_last_error_and_is_off_by_default():
    state = equilibrium.init(0.2)
    assert float(equilibrium.k_t(state, 5.0)) == pytest.approx(0.2)  # no error yet
    state = equilibrium.update(state, jnp.float32(0.5), jnp.float32(0.2), gamma=0.5, lambda_k=0.1)
    assert float(equilibrium.k_t(state, 0.0)) == pytest.approx(0.2 + 0.1 * 0.05)
    assert float(equilibrium.k_t(state, 2.0)) == pytest.approx(0.2 + 2.1 * 0.05)
    assert float(equilibrium.k_t(state, 100.0)) == 1.0
    falling = state._replace(balance=jnp.float32(-0.05))
    assert float(equilibrium.k_t(falling, 100.0)) == 0.0
    assert make_config().began.lambda_p == 0.0


def test_a_step_weighs_the_fakes_by_k_t():
    config = config_of("began", began__lambda_p=2.0, began__k_init=0.1)
    state = train_state.init(config)
    state = state.replace(equilibrium=state.equilibrium._replace(balance=jnp.float32(0.05)))
    batch = np.zeros((4, 16, 16, 3), np.uint8)
    _, metrics = jax.jit(lambda state: train_step(config, state, batch))(state)
    assert float(metrics["k"]) == pytest.approx(0.2)


# D on x and the fakes at once.


@pytest.mark.parametrize("name", some_slow(OBJECTIVES, {"began", "ebgan_pt"}))
def test_one_batch_of_both_gives_the_losses_and_gradients_of_two(name):
    def found(conv):
        config = config_of(name, model__conv=conv, model__preset="fig1", **OPEN)
        d, x, fake = discriminator_of(config), images(1), images(2)
        z = models.sample_latents(config.model, jax.random.key(3), 3)
        loss = objectives.of(config).discriminator
        return jax.value_and_grad(
            lambda d: loss(config, d, x, fake, z, context(0.4, jnp.float32(0.25))), has_aux=True
        )(d)

    two, one = jax.jit(lambda: (found("plain"), found("transposed")))()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), one[0], two[0])
    scale = largest(two[1])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6 * scale, rtol=1e-4), one[1], two[1]
    )
