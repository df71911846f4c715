"""How images reach the devices: all of them once, or batch by batch."""

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from began_jax import processes, sharding
from began_jax.data import order
from began_jax.schema import Config

_LARGEST_SHARE = 0.25  # of a device's memory


def resident(images: np.ndarray, mesh: Mesh) -> Array | None:
    """Return the images as rows (N, R · R · C) on every device, or None if they take too much room.

    They may take a quarter of a device's memory.

    None also where a device reports no limit of its memory, as a CPU does, which reads the host's
    array directly.
    """
    smallest = processes.smallest(min(map(_memory, mesh.local_devices)))
    if not fits(images.nbytes, smallest):
        return None
    return sharding.put(images.reshape(len(images), -1), sharding.replicated(mesh))


def fits(num_bytes: int, memory: int) -> bool:
    """Return whether a data set of this size is kept on devices with this much memory."""
    return num_bytes <= _LARGEST_SHARE * memory


def batches(
    config: Config,
    images: np.ndarray,
    dataset: Array | None,
    mesh: Mesh,
    first_step: int,
    num_steps: int,
) -> Array:
    """What `sharding.compile_steps`'s program reads in the steps from `first_step` on.

    The call returns before the copy to the devices ends, so that one copy and the steps before it
    go on at once.
    """
    indices = np.stack(
        [
            order.batch_indices(config.seed, step, config.train.batch_size, len(images))
            for step in range(first_step, first_step + num_steps)
        ]
    )
    if dataset is not None:
        return sharding.put(indices.astype(np.int32), sharding.split(mesh))
    shape = (*indices.shape, *images.shape[1:])
    return sharding.put_batches(lambda part: images[indices[part[:2]]], shape, mesh)


def _memory(device: jax.Device) -> int:
    return (device.memory_stats() or {}).get("bytes_limit", 0)
