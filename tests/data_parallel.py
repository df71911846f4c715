"""Print what each device computes, on one device and on eight, with the same batch a device.

A line of JSON for each case: [name, [FLOPs, bytes] on one device, [FLOPs, bytes] on eight].
tests/test_data_parallel.py runs this in a process of its own, as the suite's has four devices.
"""

import functools
import json
import os
from concurrent import futures

if __name__ == "__main__":  # before jax starts
    os.environ["JAX_NUM_CPU_DEVICES"] = "8"
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # compiles in half the time


import jax
import numpy as np
from jax import numpy as jnp

from began_jax import blocks, generate, models, sharding, train_state
from began_jax.metrics import networks
from tests.conftest import make_config

BATCH = 8  # a device's
SMALL = {"model__n": 8, "model__repeats": 1, "data__flip": True}
STEPS = {
    "separate latents": {},
    "shared latents": {"began__shared_z": True},
    "alternating": {"began__alternating": True},
    "began_cs": {"objective__name": "began_cs", "model__n_h": 5},
    "denoising": {"objective__name": "denoising"},
    "variational": {"objective__name": "variational"},
    "ebgan": {"objective__name": "ebgan"},
    "ebgan_pt": {"objective__name": "ebgan_pt"},
    "hinge": {"objective__name": "hinge"},
    "preset fig1": {"model__preset": "fig1"},
    "preset ebgan": {
        "model__preset": "ebgan",
        "model__carry_steps": 0,
        "model__repeats": 2,
        "model__resolution": 32,
        "model__n": 4,
        "model__n_h": 64,
    },
    "microbatches": {"train__microbatches": 2},
    "resident": {},
}


def cost(compiled: jax.stages.Compiled) -> list[float]:
    """FLOPs and bytes of temporary memory of the program that each device runs."""
    analysis = compiled.cost_analysis()
    assert analysis is not None
    return [float(analysis["flops"]), compiled.memory_analysis().temp_size_in_bytes]


def step(name: str, num_devices: int) -> list[float]:
    batch = BATCH * num_devices
    config = make_config(**{**SMALL, "train__batch_size": batch, **STEPS[name]})
    mesh = sharding.make_mesh(batch, jax.devices()[:num_devices])
    dataset = None
    if name == "resident":
        dataset = sharding.put(np.zeros((32, 16 * 16 * 3), np.uint8), sharding.replicated(mesh))
    return cost(sharding.lower_steps(config, mesh, 1, dataset).compile())


def grids(name: str, num_devices: int) -> list[float]:
    """The functions that the loop calls for a record: fixed samples, reconstructions."""
    config = make_config(**SMALL, train__num_samples=BATCH * num_devices)
    mesh = sharding.make_mesh(num_devices, jax.devices()[:num_devices])
    state = sharding.init_state(config, mesh)
    if name == "fixed samples":
        function = functools.partial(generate.fixed_samples, config)
        return cost(sharding.compile_for(mesh, function, state))
    images = np.zeros((BATCH * num_devices, 16, 16, 3), np.uint8)
    real = sharding.put(images, sharding.replicated(mesh))
    function = functools.partial(generate.reconstructions, config)
    return cost(sharding.compile_for(mesh, function, state, real))


def by_blocks(name: str, num_devices: int) -> list[float]:
    """The functions of an evaluation, with their arguments as `blocks` puts them."""
    config = make_config(**SMALL)
    state = train_state.init(config)
    z = np.zeros((blocks.ROWS_PER_DEVICE * num_devices, 5), np.float32)
    images = np.zeros((len(z), 16, 16, 3), np.uint8)
    network = networks.load("random_conv", None)
    function, rows, arrays = {
        "samples": (lambda g, z: models.generate(config.model, g, z, None), z, state.generator),
        "D(x)": (functools.partial(generate.reconstructions, config), images, state),
        "features": (network.apply, images, network.params),
    }[name]
    compiled = []

    def spy(*arguments: jax.Array) -> jax.Array:
        compiled.append(jax.jit(function).lower(*arguments).compile())
        return jnp.zeros(len(z))

    blocks.map_rows(spy, rows, arrays)
    assert len(compiled[0].input_shardings[0][-1].device_set) == num_devices
    return cost(compiled[0])


CASES = {
    **{name: functools.partial(step, name) for name in STEPS},
    **{name: functools.partial(grids, name) for name in ("fixed samples", "grid of D(x)")},
    **{name: functools.partial(by_blocks, name) for name in ("samples", "D(x)", "features")},
}


def main() -> None:
    with futures.ThreadPoolExecutor(2) as threads:
        on_one = threads.map(lambda measure: measure(1), CASES.values())
        on_eight = threads.map(lambda measure: measure(8), CASES.values())
        for name, one, eight in zip(CASES, on_one, on_eight, strict=True):
            print(json.dumps([name, one, eight]), flush=True)


if __name__ == "__main__":
    main()
