"""The project's step against `reference.py`: the same weights, images and z, the same numbers.

The project computes in float32, the reference in float64; u is float32's unit roundoff. Every step
is compared from the project's own state ("one step", tight) and both are run freely ("free run").
"""

import functools

import jax
import numpy as np
import pytest

from began_jax import models, randomness, train_state, train_step
from began_jax.randomness import Purpose
from tests import reference
from tests.conftest import make_config

U = 2.0**-24
# Means of some 10^4 values of order 1, each behind a dozen layers: a few dozen roundings in effect.
METRIC_RTOL, METRIC_ATOL = 200 * U, 20 * U
# A gradient is a signed sum of 10^4 terms, and L_D's a difference of two such, so that roundings
# count against a sum some ten times smaller than its terms. Relative to the layer's largest.
GRADIENT_TOLERANCE = 1000 * U
# |r|'s derivative jumps at r = v − D(v) = 0. D(v) is exact to some 5 u of the largest (1 u in the
# mean); with an |r| below this share of the largest, float32 may see the other sign, and the
# gradients of such a step are not compared. Elsewhere no sign differs: the tolerance above holds.
AMBIGUOUS_MARGIN = 16 * U
# Free run: distance between the two parameter vectors over the distance travelled; the metrics.
# Until a sign differs: β2 in float32 alone gives up to u / (1 − β2) / 2 = 3e-5, and a gradient
# hardly larger than its rounding moves one of 10^3 parameters by a few percent of lr too much or
# too little, up to 1e-3 of the distance. From there on: a sign more or less is one of 10^4 terms
# of a gradient, of which Adam makes 1e-4 of the distance or more, and which turns further signs.
FREE_DISTANCE, FREE_METRIC_TOLERANCE = 1e-3, 1e-4
FREE_DISTANCE_AFTER, FREE_METRIC_TOLERANCE_AFTER = 1e-2, 1e-2

COMMON = {
    "model__carry_steps": 15,  # the carry ends, and stays at 0, within 20 steps
    "began__lambda_k": 0.1,
    "optim__learning_rate": 1e-3,
    "optim__min_learning_rate": 2e-4,
    "optim__decay_window_steps": 10**6,
    "optim__ema_half_life_images": 0,
    "train__batch_size": 3,
}
AUTHOR = {"model__preset": "author", "began__k_init": 0.3, "began__gamma": 0.8}
FIG1 = {"model__preset": "fig1", "began__k_init": 0.995, "began__gamma": 1.0}  # k meets 1
PLAIN = {
    "model__preset": "fig1",
    "model__skips": False,
    "model__carry_steps": 0,
    "began__eta": 2,
    "began__gamma": 0.1,
    "began__k_init": 0.01,  # k meets 0
}
PLATEAU = {"optim__decay_window_steps": 3, "optim__decay_threshold": 1e-3}
RUNS = {
    "author": (20, {**AUTHOR, "model__resolution": 32}),
    "fig1": (20, {**FIG1, "model__resolution": 32}),
    "plain": (20, {**PLAIN, **PLATEAU}),
    "shared_z": (5, {**AUTHOR, "began__shared_z": True, "model__channels": 1}),
    "alternating": (5, {**AUTHOR, "began__alternating": True}),
}


def random_parameters(config, rng):
    """(G's, D's) with biases, and small outputs: L(G(z)) starts on either side of γ · L(x)."""

    def draw(path, leaf):
        if len(leaf.shape) == 1:
            return rng.normal(0, 0.05, leaf.shape).astype(np.float32)
        scale = 0.1 if path[-2].key == "conv_out" else 1.0
        sigma = scale * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return rng.normal(0, sigma, leaf.shape).astype(np.float32)

    return tuple(
        jax.tree_util.tree_map_with_path(
            draw, jax.eval_shape(lambda key, init=init: init(config.model, key), jax.random.key(0))
        )
        for init in (models.init_generator, models.init_discriminator)
    )


def images_of(config, num_steps, rng):
    """uint8 noise in blocks of 4 × 4 pixels, whose contrast goes up and down, and M_global."""
    size = config.model.resolution
    shape = (num_steps, config.train.batch_size, size // 4, size // 4, config.model.channels)
    contrast = 0.55 + 0.45 * np.cos(2 * np.pi * (np.arange(num_steps) + 4) / 12)
    blocks = rng.uniform(-127, 127, shape) * contrast[:, None, None, None, None]
    return (127.5 + blocks.repeat(4, 2).repeat(4, 3)).astype(np.uint8)


@functools.partial(jax.jit, static_argnums=(0, 1))
def two_latents(model, num, seed, step):
    """z_D and z_G as the project draws them when they are not shared."""
    _, key_d, key_g = jax.random.split(randomness.key(seed, Purpose.STEP, step), 3)
    return models.sample_latents(model, key_d, num), models.sample_latents(model, key_g, num)


def latents(config, state):
    model = make_config().model  # only n_z matters, the same in all runs: one compilation
    z_d, z_g = two_latents(model, config.train.batch_size, state.seed, state.step)
    return to_float64((z_d, z_d if config.began.shared_z else z_g))


def to_float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def to_reference(state, plateau):
    """The project's state as the reference's, but for the plateau's record."""
    adam_g, adam_d = to_float64((state.generator_adam, state.discriminator_adam))
    return reference.State(
        int(state.step),
        to_float64(state.generator),
        to_float64(state.discriminator),
        (adam_g.mu, adam_g.nu),
        (adam_d.mu, adam_d.nu),
        float(state.equilibrium.k),
        plateau,
    )


@functools.cache
def run(name):
    """The project's run: config, states (one more than steps), metrics, (images, z_D, z_G)."""
    num_steps, overrides = RUNS[name]
    config = make_config(**{**COMMON, **overrides})
    rng = np.random.default_rng(0)
    generator, discriminator = random_parameters(config, rng)
    state = jax.jit(
        lambda: train_state.init(config).replace(generator=None, discriminator=None)
    )().replace(generator=generator, discriminator=discriminator)
    step = jax.jit(
        train_step.train_step,
        static_argnums=0,
        # Half the time to compile; one run is of the program as users have it.
        compiler_options=None if name == "author" else {"xla_backend_optimization_level": 0},
    )
    states, metrics, feeds = [state], [], []
    for images in images_of(config, num_steps, rng):
        feeds.append((images, *latents(config, state)))
        state, measured = step(config, state, images)
        states.append(state)
        metrics.append({key: float(value) for key, value in measured.items()})
    return config, states, metrics, feeds


def flat(tree):
    return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])


def assert_metrics(actual, expected, rtol, atol):
    for key, value in actual.items():
        np.testing.assert_allclose(value, expected[key], rtol, atol, err_msg=key)


def assert_moments(actual, expected):
    """Layer by layer, relative to the layer's largest."""

    def check(path, leaf, wanted):
        error, scale = np.abs(leaf - wanted).max(), np.abs(wanted).max()
        assert error <= GRADIENT_TOLERANCE * scale, (jax.tree_util.keystr(path), error / scale)

    jax.tree_util.tree_map_with_path(check, actual, expected)


def assert_descent(optim, before, after, moments, t, learning_rate):
    """Adam's move under the project's own moments, but for the roundings of p, β2 and a few more.

    β2 in float32 puts 1 − β2^t off by u / (1 − β2), relative, at every t.
    """
    p, actual = flat(before), flat(after)
    wanted = flat(reference.adam_update(optim, before, *moments, t, learning_rate))
    tolerance = 2 * U * np.abs(p) + np.abs(wanted - p) * (U / (1 - optim.b2) + 16 * U)
    assert (np.abs(actual - wanted) <= tolerance).all(), np.abs(actual - wanted).max()


@functools.cache
def steps_of_reference(name):
    """(before, after, measured) of the reference for every step, each from the project's state."""
    config, states, _, feeds = run(name)
    plateau, steps = reference.Plateau(config.optim.learning_rate), []
    for state, feed in zip(states, feeds, strict=False):
        before = to_reference(state, plateau)
        after, measured = reference.step(config, before, *feed)
        plateau = after.plateau
        steps.append((before, after, measured))
    return steps


def signs_are_clear(measured):
    return all(np.abs(r).min() > AMBIGUOUS_MARGIN * np.abs(r).max() for r in measured["residuals"])


@pytest.mark.parametrize("name", RUNS)
def test_one_step(name):
    config, states, metrics, feeds = run(name)
    compared = 0
    for i, (before, expected, measured) in enumerate(steps_of_reference(name)):
        after = to_reference(states[i + 1], None)
        assert after.step == expected.step
        assert_metrics(metrics[i], measured, METRIC_RTOL, METRIC_ATOL)
        np.testing.assert_allclose(after.k, expected.k, METRIC_RTOL, METRIC_ATOL)
        lr = measured["learning_rate"]
        assert_descent(config.optim, before.d, after.d, after.adam_d, i + 1, lr)
        assert_descent(config.optim, before.g, after.g, after.adam_g, i + 1, lr)
        if config.began.eta == 2 or signs_are_clear(measured):
            compared += 1
            assert_moments(after.adam_d, expected.adam_d)
            assert_moments(after.adam_g, expected.adam_g)
    assert compared >= 0.75 * len(feeds)


@pytest.mark.parametrize("name", RUNS)
def test_free_run(name):
    config, states, metrics, feeds = run(name)
    start = state = to_reference(states[0], reference.Plateau(config.optim.learning_rate))
    same_signs = True
    for i, feed in enumerate(feeds):
        state, measured = reference.step(config, state, *feed)
        if config.began.eta == 1:
            residuals = zip(
                steps_of_reference(name)[i][2]["residuals"], measured["residuals"], strict=True
            )
            same_signs &= all((np.sign(a) == np.sign(b)).all() for a, b in residuals)
        tolerance = FREE_METRIC_TOLERANCE if same_signs else FREE_METRIC_TOLERANCE_AFTER
        assert_metrics(metrics[i], measured, tolerance, tolerance)
        project = to_reference(states[i + 1], None)
        for net in ("d", "g"):
            ours, theirs, origin = (flat(getattr(s, net)) for s in (project, state, start))
            distance = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs - origin)
            assert distance < (FREE_DISTANCE if same_signs else FREE_DISTANCE_AFTER), (i, net)


def test_runs_meet_what_they_are_meant_to_compare():
    ks = {name: [m["k"] for m in run(name)[2]] for name in ("author", "fig1", "plain")}
    assert min(np.diff(ks["author"])) < -1e-4
    assert max(np.diff(ks["author"])) > 1e-4
    assert 1.0 in ks["fig1"]
    assert min(np.diff(ks["fig1"])) < -1e-4
    assert 0.0 in ks["plain"]
    # Per window: the first, a better one, a stall, better than the last but not than the best, the
    # best so far, a stall whose halving meets the floor.
    rates = [m["learning_rate"] for m in run("plain")[2]][:: PLATEAU["optim__decay_window_steps"]]
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 1e-3, 5e-4, 2.5e-4, 2.5e-4, 2e-4], rtol=1e-6)
    _, _, _, feeds = run("author")
    assert np.abs(feeds[0][1] - feeds[0][2]).max() > 0.1


@pytest.mark.parametrize(
    ("overrides", "carry"),
    [
        ({"model__preset": "author", "model__resolution": 32}, 0.6),
        ({"model__preset": "fig1", "began__eta": 2}, 0.6),
        ({"model__preset": "fig1", "model__skips": False}, 0.0),
    ],
)
def test_backward_passes_of_the_reference(overrides, carry):
    """Along a random direction of every parameter: (L(p + h e) − L(p − h e)) / 2h, h = 1e-7.

    The difference is good to h² and to float64's roundoff / h, 1e-9 here; a larger h would carry
    residuals across 0, where |r| has no derivative.
    """
    config = make_config(**overrides)
    model, eta, k, h = config.model, config.began.eta, 0.4, 1e-7
    rng = np.random.default_rng(1)
    g, d = to_float64(random_parameters(config, rng))
    size = model.resolution
    x = rng.uniform(-0.5, 0.5, (2, size, size, model.channels))
    z = rng.uniform(-1, 1, (2, model.n_z))

    def of_d(d):
        return reference.discriminator_gradients(model, eta, d, g, x, z, k, carry)[:2]

    def of_g(g):
        return reference.generator_gradients(model, eta, d, g, z, carry)[:2]

    for objective, params in ((of_d, d), (of_g, g)):
        leaves, treedef = jax.tree.flatten(params)
        grads = jax.tree.leaves(objective(params)[1])
        assert len(grads) == len(leaves)
        for i, (leaf, grad) in enumerate(zip(leaves, grads, strict=True)):
            e = rng.normal(size=leaf.shape)
            e /= np.linalg.norm(e)

            def loss_at(sign, i=i, e=e, leaves=leaves, treedef=treedef, objective=objective):
                moved = [*leaves[:i], leaves[i] + sign * h * e, *leaves[i + 1 :]]
                return objective(jax.tree.unflatten(treedef, moved))[0]

            slope = (loss_at(1) - loss_at(-1)) / (2 * h)
            np.testing.assert_allclose(np.sum(grad * e), slope, rtol=1e-6, atol=1e-8)
