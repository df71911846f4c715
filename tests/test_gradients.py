"""Isolation of the two networks, and the joint form against the paper's."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from began_jax import gradients, models, objectives
from began_jax.objectives import Context
from began_jax.rules import OBJECTIVES
from tests.conftest import make_config


def setup(**overrides):
    config = make_config(**overrides)
    keys = jax.random.split(jax.random.key(0), 5)
    m = config.model
    objective = objectives.of(config)
    d = models.init_discriminator(
        m,
        keys[0],
        num_outputs=objective.num_outputs(m),
        with_decoder=objective.is_auto_encoder,
    )
    g = models.init_generator(m, keys[1])
    x = jax.random.uniform(keys[2], (3, m.resolution, m.resolution, m.channels)) - 0.5
    z_d, z_g = (models.sample_latents(m, key, 3) for key in keys[3:])
    return config, d, g, x, z_d, z_g


def context(k, carry=None):
    return Context(jnp.float32(k), carry, jnp.int32(0), jax.random.key(7))


def assert_trees_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def largest(tree):
    return max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ds_loss_sends_nothing_to_g(objective):
    # The margin: so that EBGAN's loss of D sees the fakes.
    config, d, g, x, z, other = setup(
        objective__name=objective, model__n_h=5, objective__margin=100.0
    )

    def sum_of_ds_gradient(g):
        _, grads = gradients.discriminator(config, d, g, x, z, context(0.5))
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(grads))

    def grads(z):
        return gradients.discriminator(config, d, g, x, z, context(0.5))[1]

    seen = jax.tree.map(lambda a, b: a - b, grads(z), grads(other))
    assert largest(seen) > 1e-4
    # The fakes are a constant to L_D, so nothing that comes out of it depends on G differentiably.
    assert largest(jax.grad(sum_of_ds_gradient)(g)) == 0.0


def test_at_k_zero_d_does_not_see_the_fakes_and_otherwise_does():
    config, d, g, x, z, other = setup()

    def grads(k, z):
        return gradients.discriminator(config, d, g, x, z, context(k))[1]

    assert_trees_equal(grads(0.0, z), grads(0.0, other))
    changed = jax.tree.map(lambda a, b: a - b, grads(0.5, z), grads(0.5, other))
    assert largest(changed) > 1e-4


def test_ds_gradient_is_the_difference_of_the_two_errors():
    config, d, g, x, z, _ = setup()

    def grads(k):
        return gradients.discriminator(config, d, g, x, z, context(k))[1]

    # Linear in k: the gradient at 0.5 lies half-way between those at 0 and at 1.
    half_way = jax.tree.map(lambda a, b: (a + b) / 2, grads(0.0), grads(1.0))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), half_way, grads(0.5)
    )


@pytest.mark.parametrize("conv", ["phases", "transposed"])
@pytest.mark.parametrize("preset", ["author", pytest.param("fig1", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("objective", "eta"),
    [
        ("began", 1),
        ("began", 2),
        ("variational", 2),
        pytest.param("denoising", 1, marks=pytest.mark.slow),
        pytest.param("denoising", 2, marks=pytest.mark.slow),
        pytest.param("variational", 1, marks=pytest.mark.slow),
    ],
)
def test_joint_agrees_with_the_papers_form(preset, eta, objective, conv):
    config, d, g, x, z, _ = setup(
        model__preset=preset,
        model__conv=conv,
        began__eta=eta,
        began__shared_z=True,
        objective__name=objective,
    )
    energy = objectives.of(config).energy

    @jax.jit  # as one program, for the same arithmetic where the two do the same
    def both(k):
        now = context(k, jnp.float32(0.25))
        return (
            gradients.joint(config, energy, d, g, x, z, now),
            gradients.discriminator(config, d, g, x, z, now),
            gradients.generator(config, d, g, z, now),
        )

    for k in (0.0, 0.3):
        joint, (loss_real, grads_d), (loss_fake, grads_g) = both(k)
        np.testing.assert_allclose(joint.loss_real, loss_real, rtol=1e-6)
        np.testing.assert_allclose(joint.loss_fake, loss_fake, rtol=1e-6)
        # Float32 sums in another order; relative to the largest gradient of the network.
        for ours, papers in ((joint.discriminator, grads_d), (joint.generator, grads_g)):
            scale = largest(papers)
            assert scale > 1e-3
            jax.tree.map(
                lambda a, b, scale=scale: np.testing.assert_allclose(
                    a, b, atol=2e-6 * scale, rtol=1e-5
                ),
                ours,
                papers,
            )


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["author", "fig1"])
@pytest.mark.parametrize("form", ["phases", "transposed", "winograd"])
def test_a_form_s_gradients_are_the_plain_ones(preset, form):
    # At 32×32 every kind of convolution occurs.
    shape = {"model__resolution": 32, "model__n": 9, "model__preset": preset}
    plain, d, g, x, z, _ = setup(**shape, model__conv="plain")
    fast, *_ = setup(**shape, model__conv=form)
    now = context(0.3, jnp.float32(0.25))

    def both(config):
        loss_real, grads_d = gradients.discriminator(config, d, g, x, z, now)
        loss_fake, grads_g = gradients.generator(config, d, g, z, now)
        return (loss_real, loss_fake), (grads_d, grads_g)

    (losses, grads), (expected_losses, expected) = jax.jit(lambda: (both(fast), both(plain)))()
    np.testing.assert_allclose(losses, expected_losses, rtol=2e-6)
    for ours, papers in zip(grads, expected, strict=True):
        scale = largest(papers)
        jax.tree.map(
            lambda a, b, scale=scale: np.testing.assert_allclose(a, b, atol=2e-5 * scale),
            ours,
            papers,
        )
