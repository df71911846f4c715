import functools
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from began_jax import blocks, data_axis, generate, train_state
from tests import data_parallel
from tests.conftest import ROOT, make_config


@functools.cache
def costs():
    """[FLOPs, bytes] of the program of one device, of one and of eight, by case."""
    command = [sys.executable, "-m", "tests.data_parallel"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = map(json.loads, done.stdout.splitlines())
    return {name: (one, eight) for name, one, eight in lines}


@pytest.mark.parametrize("case", data_parallel.CASES)
def test_eight_devices_each_do_an_eighth(case):
    one, eight = costs()[case]
    assert one[0] > 1e6
    for of_one, of_eight in zip(one, eight, strict=True):
        assert of_eight <= 1.02 * of_one


def test_samples_do_not_depend_on_the_number_of_devices(monkeypatch):
    config = make_config()
    state = train_state.init(config)

    def samples():
        return np.concatenate(list(generate.samples(config, state, 150)))

    assert blocks.mesh_for(150).size == 3
    on_three = samples()
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: first)
    assert blocks.mesh_for(150).size == 1
    np.testing.assert_array_equal(samples(), on_three)


def test_without_a_mesh_there_is_nothing_to_shard():
    x = np.ones(3)
    assert data_axis.shard(x) is x
