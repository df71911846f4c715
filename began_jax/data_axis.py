"""The mesh axis over which batches are sharded, as pure functions may use it."""

import jax
from jax import Array
from jax.sharding import PartitionSpec

NAME = "data"


def shard(batch: Array) -> Array:
    """Shard axis 0 of a traced array over the devices of the mesh in context.

    XLA replicates whatever nothing tells it to shard. Latents drawn inside `jit` are such an array,
    and everything computed from replicated latents is replicated too: each device then computes the
    whole batch. Values do not show this; only the compiled program does.

    Args:
      batch: (B, ...). B need not divide by the number of devices.

    Returns:
      The same values. Without a mesh in context (`jax.set_mesh`), the array itself.
    """
    if NAME not in jax.sharding.get_abstract_mesh().axis_names:
        return batch
    return jax.lax.with_sharding_constraint(batch, PartitionSpec(NAME))
