"""The device mesh, what lies where on it, and the compiled functions.

One axis, `data`: batches are split over it, the state is replicated. Under `jit` a mean over the
batch is the mean over all devices, so there is one L(x), one L(G(z)) and one k_t.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from began_jax import train_state
from began_jax.config import Config, ConfigError
from began_jax.train_state import TrainState
from began_jax.train_step import train_step


def make_mesh(batch_size: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The devices (all there are by default) along one axis `data`.

    Raises:
      ConfigError: if the batch does not divide by the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    num_devices = len(devices)
    if batch_size % num_devices:
        raise ConfigError(
            f"config.train.batch_size = {batch_size}: a multiple of the {num_devices} devices is "
            "needed"
        )
    return jax.make_mesh((num_devices,), ("data",), (AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The leading axis divided over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def init_state(config: Config, mesh: Mesh) -> TrainState:
    """The replicated initial state, made on the devices (a device_put would damage it there)."""
    init = functools.partial(train_state.init, config)
    return jax.jit(init, out_shardings=replicated(mesh))()


def abstract_state(config: Config, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of the state: the target of a restore."""
    shapes = jax.eval_shape(functools.partial(train_state.init, config))
    sharding = replicated(mesh)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes
    )


def put_batch(images: np.ndarray, mesh: Mesh) -> Array:
    """A host's uint8 rows as one array split over the devices."""
    return jax.make_array_from_process_local_data(split(mesh), images)


def compile_step(config: Config, mesh: Mesh) -> jax.stages.Compiled:
    """The train step, compiled once, ahead of time, for the one shape of batch a run has.

    Called with (state, uint8 images split over `data`) it returns (state, metrics), replicated; it
    takes over (donates) the state it is given.
    """
    step = jax.jit(
        functools.partial(train_step, config),
        in_shardings=(replicated(mesh), split(mesh)),
        out_shardings=replicated(mesh),
        donate_argnums=0,
    )
    m = config.model
    shape = (config.train.batch_size, m.resolution, m.resolution, m.channels)
    images = jax.ShapeDtypeStruct(shape, np.uint8, sharding=split(mesh))
    return step.lower(abstract_state(config, mesh), images).compile()


def replicate(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Jits a function whose results are wanted whole on every device."""
    return jax.jit(function, out_shardings=replicated(mesh))
