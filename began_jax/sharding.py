"""The device mesh, what lies where on it, and the compiled functions.

One axis, `data`, over all devices of all processes: batches are split over it, the state is
replicated, all of it or all but Adam's moments (`train.shard_optimizer`). Under `jit` a mean over
the batch is the mean over all devices, so there is one L(x), one L(G(z)) and one k_t.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from began_jax import backends, data_axis, models, train_state
from began_jax.config import ConfigError
from began_jax.schema import Config, ModelConfig
from began_jax.train_state import TrainState
from began_jax.train_step import Metrics, train_steps

# (state, batches, number of steps) to the state and the metrics after them.
Steps = Callable[[TrainState, Array, int], tuple[TrainState, Metrics]]


def make_mesh(
    batch_size: int, devices: Sequence[jax.Device] | None = None, *, microbatches: int = 1
) -> Mesh:
    """The devices (all there are by default) along one axis `data`.

    Raises:
      ConfigError: if the batch, or each of its parts, does not divide by the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    check_batch(batch_size, len(devices), microbatches)
    return jax.make_mesh((len(devices),), (data_axis.NAME,), (AxisType.Auto,), devices=devices)


def check_batch(batch_size: int, num_devices: int, microbatches: int) -> None:
    """Raise ConfigError if the devices cannot share each part of the batch equally."""
    if batch_size % (num_devices * microbatches):
        parts = f", times config.train.microbatches = {microbatches}," if microbatches > 1 else ""
        raise ConfigError(
            f"config.train.batch_size = {batch_size}: a multiple of the {num_devices} devices"
            f"{parts} is needed"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The second axis, a batch's of one or more steps, divided over the devices."""
    return NamedSharding(mesh, PartitionSpec(None, data_axis.NAME))


def state_shardings(config: Config, mesh: Mesh) -> TrainState:
    """Where each leaf of the state lies: whole on every device, unless moments are divided."""
    whole = replicated(mesh)

    def divided(leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        """Along its longest axis of those that the devices divide."""
        sizes = [size if size % mesh.size == 0 else 0 for size in leaf.shape]
        if not any(sizes):
            return whole
        axis = sizes.index(max(sizes))
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, data_axis.NAME))

    shapes = _shapes(config)
    shardings = jax.tree.map(lambda _: whole, shapes)
    if not config.train.shard_optimizer:
        return shardings
    return shardings.replace(
        generator_adam=jax.tree.map(divided, shapes.generator_adam),
        discriminator_adam=jax.tree.map(divided, shapes.discriminator_adam),
    )


def init_state(config: Config, mesh: Mesh) -> TrainState:
    """The initial state, made on the devices."""
    init = functools.partial(train_state.init, config)
    return jax.jit(init, out_shardings=state_shardings(config, mesh))()


def roll_back(config: Config, mesh: Mesh, state: TrainState) -> TrainState:
    """`train_state.roll_back`, on the devices."""
    function = functools.partial(train_state.roll_back, config)
    return jax.jit(function, out_shardings=state_shardings(config, mesh))(state)


def abstract_state(config: Config, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of the state: the target of a restore."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        _shapes(config),
        state_shardings(config, mesh),
    )


def state_bytes(config: Config, mesh: Mesh) -> int:
    """Return the bytes of the train state on each device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(abstract_state(config, mesh))
    )


def put(arrays: Any, shardings: Any) -> Any:
    """A tree of host arrays, the same in every process, on the devices."""
    return jax.tree.map(
        lambda array, sharding: jax.make_array_from_callback(
            np.shape(array), sharding, lambda index: np.asarray(array)[index]
        ),
        arrays,
        shardings,
    )


def put_batches(read: Callable[[Any], np.ndarray], shape: tuple[int, ...], mesh: Mesh) -> Array:
    """Images or indices (K, B, ...) of K steps as one array, each batch split over the devices.

    `read` gives the part of the array that an index names; each process reads only what its devices
    hold.
    """
    return jax.make_array_from_callback(shape, split(mesh), read)


def local(tree: Any) -> Any:
    """Replicated arrays as this process' first device has them."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def _shapes(config: Config) -> TrainState:
    return jax.eval_shape(functools.partial(train_state.init, config))


def lower_steps(
    config: Config,
    mesh: Mesh,
    most_steps: int = 1,
    dataset: Array | jax.ShapeDtypeStruct | None = None,
) -> jax.stages.Lowered:
    """`compile_steps` before XLA's work."""
    t, m = config.train, config.model
    image = () if dataset is not None else (m.resolution, m.resolution, m.channels)
    batches = jax.ShapeDtypeStruct(
        (most_steps, t.batch_size, *image),
        np.uint8 if dataset is None else np.int32,
        sharding=split(mesh),
    )
    whole = replicated(mesh)
    state = abstract_state(config, mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    num_steps = jax.ShapeDtypeStruct((), np.int32, sharding=whole)
    steps = jax.jit(
        functools.partial(
            train_steps, config, one_exchange=backends.is_one_exchange_faster(config, mesh)
        ),
        in_shardings=(shardings, split(mesh), whole, whole),
        out_shardings=(shardings, whole),
        donate_argnums=0,
    )
    with jax.set_mesh(mesh):  # which `data_axis.shard` asks for
        return steps.lower(state, batches, num_steps, dataset)


def compile_steps(
    config: Config, mesh: Mesh, most_steps: int = 1, dataset: Array | None = None
) -> Steps:
    """Up to `most_steps` train steps as one program, compiled once, ahead of time.

    The program takes a state, which it takes over (donates), the steps' images or, with a
    `dataset` that lies on every device, their indices, and how many steps to make; it returns the
    state and metrics (most_steps,), replicated, of which the first so many count.
    """
    lowered = lower_steps(config, mesh, most_steps, dataset)
    compiled = backends.compile(lowered, config.model)

    def steps(state: TrainState, batches: Array, num_steps: int = 1) -> tuple[TrainState, Metrics]:
        return compiled(state, batches, np.int32(num_steps), dataset)

    return steps


def compile_steps_from(
    config: Config, mesh: Mesh, most_steps: int = 1, dataset: Array | None = None
) -> Callable[[int], Steps]:
    """Return a function from the first step of a device call to the program for that call.

    A second program is compiled when the vanishing residual has ended: the first one would go on to
    read and write the maps that it multiplies by 0. Which program makes a step must not depend on
    where a run was interrupted, so ask with the first step of the whole call.
    """

    @functools.cache
    def compiled(model: ModelConfig) -> Steps:
        return compile_steps(dataclasses.replace(config, model=model), mesh, most_steps, dataset)

    return lambda step: compiled(models.without_finished_residual(config.model, step))


def compile_for(mesh: Mesh, function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """Compiles a function of such arguments, whose results are wanted whole on every device."""
    jitted = jax.jit(function, out_shardings=replicated(mesh))
    with jax.set_mesh(mesh):
        return jitted.lower(*arguments).compile()
