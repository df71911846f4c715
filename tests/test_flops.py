"""A step does no more work than its form needs, and stays on the device."""

import jax
import pytest

from began_jax import sharding
from benchmarks import flops
from tests.conftest import make_config

CASES = [
    ("plain", False),
    ("phases", True),
    ("phases", False),
    ("transposed", True),
    ("transposed", False),
    ("winograd", True),
    ("winograd", False),
]


def lower(**overrides):
    config = make_config(**overrides)
    return sharding.lower_steps(config, sharding.make_mesh(4, jax.devices()[:1]))


@pytest.mark.parametrize("resolution", [32, pytest.param(64, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("form", "shared_z"), CASES)
def test_xla_counts_the_least_work_of_the_form(form, shared_z, resolution):
    n = 64
    lowered = lower(
        model__resolution=resolution,
        model__n=n,
        model__n_h=64,
        model__n_z=64,
        model__carry_steps=0,
        model__conv=form,
        began__shared_z=shared_z,
        train__batch_size=16,
    )
    counted = lowered.cost_analysis()["flops"] / 16
    least = flops.step(form, resolution=resolution, n=n, shared_z=shared_z)
    assert 0.97 * least < counted < 1.05 * least


@pytest.mark.parametrize("most_steps", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_nothing_in_the_step_waits_for_the_host(most_steps):
    config = make_config()
    mesh = sharding.make_mesh(4, jax.devices()[:1])
    text = sharding.lower_steps(config, mesh, most_steps).compile().as_text()
    for traffic in ("outfeed", "infeed", "send(", "recv(", "callback"):
        assert traffic not in text
