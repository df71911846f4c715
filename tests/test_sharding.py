import re

import jax
import numpy as np
import pytest

from began_jax import backends, dry_run, sharding
from began_jax.config import ConfigError
from tests.conftest import make_config

DEVICES = jax.devices()


def run(config, num_devices, num_steps=3):
    mesh = sharding.make_mesh(config.train.batch_size, DEVICES[:num_devices])
    state = sharding.init_state(config, mesh)
    step = sharding.compile_steps(config, mesh)
    rng = np.random.default_rng(0)
    for _ in range(num_steps):
        shape = (1, config.train.batch_size, *[config.model.resolution] * 2, config.model.channels)
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        state, metrics = step(state, sharding.put(images, sharding.split(mesh)))
    return state, metrics


def test_one_and_four_devices_give_the_same_numbers_and_one_k():
    assert len(DEVICES) == 4
    config = make_config(began__lambda_k=0.5, data__flip=True)
    (one, metrics_one), (four, metrics_four) = run(config, 1), run(config, 4)
    for name, value in metrics_one.items():
        np.testing.assert_allclose(metrics_four[name], value, rtol=2e-6, err_msg=name)
    ks = {float(shard.data) for shard in four.equilibrium.k.addressable_shards}
    assert len(four.equilibrium.k.addressable_shards) == 4
    assert len(ks) == 1
    assert ks.pop() == pytest.approx(float(one.equilibrium.k), rel=1e-6)

    # Gradients are float32 sums in another order: here their running mean, to the layer's largest.
    for a, b in zip(
        jax.tree.leaves((one.generator_adam.mu, one.discriminator_adam.mu)),
        jax.tree.leaves((four.generator_adam.mu, four.discriminator_adam.mu)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(a).max())


@pytest.mark.parametrize("shared_z", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_gradients_exchanged_as_one_array_make_the_same_step(monkeypatch, shared_z):
    config = make_config(began__shared_z=shared_z, train__microbatches=2, train__batch_size=8)

    def exchanged():
        """The number of arrays in each of the step's exchanges."""
        mesh = sharding.make_mesh(8, DEVICES[:2])
        text = sharding.lower_steps(config, mesh).compile().as_text()
        results = re.findall(r"= (.*) all-reduce\(", text)
        return [result.count("f32[") for result in results]

    apart = run(config, 2, num_steps=2)[1]
    assert max(exchanged()) > 10
    monkeypatch.setattr(backends, "is_one_exchange_faster", lambda config, mesh: True)
    together = run(config, 2, num_steps=2)[1]
    assert sum(exchanged()) == (1 if shared_z else 2)
    for name, value in apart.items():
        np.testing.assert_allclose(together[name], value, rtol=2e-6, atol=2e-7, err_msg=name)


def test_gradients_of_one_process_are_left_to_xla():
    mesh = sharding.make_mesh(4, DEVICES)
    assert not backends.is_one_exchange_faster(make_config(), mesh)


def test_the_batch_is_split_and_the_state_is_not():
    config = make_config()
    mesh = sharding.make_mesh(4, DEVICES)
    images = sharding.put(np.zeros((2, 4, 16, 16, 3), np.uint8), sharding.split(mesh))
    assert [shard.data.shape for shard in images.addressable_shards] == [(2, 1, 16, 16, 3)] * 4
    state = sharding.init_state(config, mesh)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state))


def test_the_step_takes_over_its_state():
    config = make_config()
    mesh = sharding.make_mesh(4, DEVICES[:1])
    state = sharding.init_state(config, mesh)
    sharding.compile_steps(config, mesh)(
        state, sharding.put(np.zeros((1, 4, 16, 16, 3), np.uint8), sharding.split(mesh))
    )
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_a_batch_that_does_not_divide_by_the_devices_is_refused():
    with pytest.raises(ConfigError, match=r"train.batch_size = 6: a multiple of the 4 devices"):
        sharding.make_mesh(6, DEVICES)
    with pytest.raises(ConfigError, match=r"4 devices, times config.train.microbatches = 2, is"):
        sharding.make_mesh(12, DEVICES, microbatches=2)


@pytest.mark.parametrize("shared_z", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize("num_devices", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_batch_in_parts_makes_the_step_of_the_whole(shared_z, num_devices):
    def after_two_steps(microbatches):
        config = make_config(
            train__batch_size=8, train__microbatches=microbatches, began__shared_z=shared_z
        )
        state, metrics = run(config, num_devices, num_steps=2)
        return metrics, (state.generator_adam.mu, state.discriminator_adam.mu)

    whole, parts = after_two_steps(1), after_two_steps(4)
    for name, value in whole[0].items():
        np.testing.assert_allclose(parts[0][name], value, rtol=2e-6, atol=2e-7, err_msg=name)
    for a, b in zip(jax.tree.leaves(whole[1]), jax.tree.leaves(parts[1]), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(a).max())


@pytest.mark.slow
def test_a_batch_in_parts_takes_less_memory():
    def temporary(microbatches):
        config = make_config(train__batch_size=32, train__microbatches=microbatches, model__n=16)
        mesh = sharding.make_mesh(32, DEVICES[:1])
        analysis = sharding.lower_steps(config, mesh).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    assert temporary(8) < temporary(1) / 2


@pytest.mark.slow
def test_divided_moments_make_the_same_steps_on_less_memory():
    states = [run(make_config(train__shard_optimizer=shard), 4)[0] for shard in (False, True)]
    moments = ((state.generator_adam.mu, state.discriminator_adam.mu) for state in states)
    for a, b in zip(*map(jax.tree.leaves, moments), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(a).max())
    whole, divided = (
        sum(leaf.addressable_data(0).nbytes for leaf in jax.tree.leaves(state.generator_adam.mu))
        for state in states
    )
    assert divided < 0.4 * whole
    told = [
        int(re.search(r"train state: ([\d,]+) MB", dry_run.report(config))[1].replace(",", ""))
        for config in (make_config(model__n=64, train__shard_optimizer=s) for s in (False, True))
    ]
    assert told[1] < 0.65 * told[0]  # moments are four of seven parts
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(states[1].generator))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["phases", "transposed", "winograd"])
def test_a_form_with_its_own_compiler_options_makes_the_plain_steps(form):
    # Wide enough for oneDNN's matrix products, where jaxlib has them.
    def after_two_steps(conv):
        shape = {"model__n": 32, "model__resolution": 32}
        config = make_config(**shape, model__conv=conv, began__shared_z=True, train__batch_size=2)
        state, metrics = run(config, 2, num_steps=2)
        return metrics, (state.generator_adam.mu, state.discriminator_adam.mu)

    (expected, moments), (ours, our_moments) = after_two_steps("plain"), after_two_steps(form)
    for name, value in ours.items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-5, err_msg=name)
    for a, b in zip(jax.tree.leaves(our_moments), jax.tree.leaves(moments), strict=True):
        # Adam turns a gradient near 0 into a step of either sign: the second gradient may differ.
        np.testing.assert_allclose(a, b, atol=1e-3 * np.abs(b).max())


@pytest.mark.parametrize("shared_z", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_steps_in_one_dispatch_are_single_steps_up_to_rounding(shared_z):
    config = make_config(began__shared_z=shared_z, began__lambda_k=0.5, data__flip=True)
    mesh = sharding.make_mesh(4, DEVICES[:1])
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 16, 16, 3), np.uint8)
    single, three = (sharding.compile_steps(config, mesh, num) for num in (1, 3))
    state, metrics = sharding.init_state(config, mesh), []
    for batch in images:
        state, of_step = single(state, sharding.put(batch[None], sharding.split(mesh)))
        metrics.append(of_step)
    together, of_all = three(
        sharding.init_state(config, mesh), sharding.put(images, sharding.split(mesh)), 3
    )
    assert int(together.step) == int(state.step) == 3
    for name, values in of_all.items():
        # XLA rounds otherwise inside a loop.
        expected = [float(of_step[name][0]) for of_step in metrics]
        np.testing.assert_allclose(values, expected, rtol=1e-5, err_msg=name)
