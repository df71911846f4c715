"""A function of N rows, computed in blocks over the devices of this process."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from began_jax import data_axis

# Each device computes this many rows at a time, whatever N and the number of devices. One program
# for each number of devices serves every N. Rounding depends on the batch size, so a row is rounded
# the same way in all of them.
ROWS_PER_DEVICE = 64


def mesh_for(num_rows: int) -> Mesh:
    """Return a mesh of this process's devices, at most as many as `num_rows` rows occupy."""
    num_devices = max(1, -(-num_rows // ROWS_PER_DEVICE))
    devices = jax.local_devices()[:num_devices]
    # `jax.make_mesh` refuses 3, 5 or 7 devices of a TPU host, which are no cuboid.
    return Mesh(np.array(devices), (data_axis.NAME,), axis_types=(AxisType.Auto,))


def slices(num_rows: int, mesh: Mesh | None = None) -> Iterator[slice]:
    """Yield the rows of each block: 64 for each device of the mesh (default: `mesh_for`)."""
    size = _num_rows(mesh or mesh_for(num_rows))
    for first in range(0, num_rows, size):
        yield slice(first, min(first + size, num_rows))


def replicate(arrays: Any, mesh: Mesh) -> Any:
    """Copy a tree of arrays to every device of the mesh. Arrays already there are not copied."""
    return jax.device_put(arrays, NamedSharding(mesh, PartitionSpec()))


def each(
    function: Callable[..., Any], rows: Any, *arrays: Any, mesh: Mesh | None = None
) -> Iterator[Any]:
    """Yield `function(*arrays, block)` for each block of rows.

    Args:
      function: of jitted parts; returns a tree of arrays (B, ...), row i from row i of the block.
      rows: a NumPy array (N, ...), N ≥ 1, or a tree of them.
      arrays: trees of arrays that all blocks share, such as parameters.
      mesh: where several calls share a compilation, the result of one call of `mesh_for`.

    Yields:
      A tree of NumPy arrays, one row for each row of the block.
    """
    num_rows = len(jax.tree.leaves(rows)[0])
    mesh = mesh or mesh_for(num_rows)
    arrays = replicate(arrays, mesh)
    sharded = NamedSharding(mesh, PartitionSpec(data_axis.NAME))
    for part in slices(num_rows, mesh):
        # The last block repeats its first rows up to the size of the others.
        num = part.stop - part.start
        indices = part.start + np.arange(_num_rows(mesh)) % num
        block = jax.tree.map(lambda array, indices=indices: array[indices], rows)
        results = jax.device_get(function(*arrays, jax.device_put(block, sharded)))
        yield jax.tree.map(lambda result, num=num: result[:num], results)


def map_rows(
    function: Callable[..., Any], rows: Any, *arrays: Any, mesh: Mesh | None = None
) -> Any:
    """Return the results of `each` for all rows, a tree of NumPy arrays (N, ...)."""
    results = list(each(function, rows, *arrays, mesh=mesh))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


def _num_rows(mesh: Mesh) -> int:
    return ROWS_PER_DEVICE * mesh.size
