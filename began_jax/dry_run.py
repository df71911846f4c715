"""What a run would be and cost, without running it."""

import math

import jax

from began_jax import backends, models, sharding
from began_jax import config as config_lib
from began_jax.schema import Config


def report(config: Config) -> str:
    """The resolved config, parameter counts, memory on one device and FLOPs per image.

    The step is compiled for the devices at hand but not run. FLOPs are XLA's count for one whole
    train step, as it is given it, divided by the batch (a multiply-add counts as two).
    """
    asked, config = config, backends.resolve(config)
    mesh = sharding.make_mesh(config.train.batch_size, microbatches=config.train.microbatches)
    state = sharding.abstract_state(config, mesh)
    lowered = sharding.lower_steps(config, mesh)
    costs = lowered.cost_analysis()
    memory = backends.compile(lowered, config.model).memory_analysis()
    assert memory is not None and costs is not None  # every back end of this project has them
    flops = costs["flops"] / config.train.batch_size
    generator = models.num_parameters(state.generator)
    discriminator = models.num_parameters(state.discriminator)
    state_bytes = sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(state)
    )
    lines = [
        config_lib.to_json(asked).rstrip(),
        f"parameters: {generator + discriminator:,} "
        f"(generator {generator:,}, discriminator {discriminator:,})",
        f"train state: {state_bytes / 1e6:,.0f} MB a device",
        f"one step's temporary memory: {memory.temp_size_in_bytes / 1e6:,.0f} MB a device, "
        "as compiled for it",
        f"work: {flops / 1e9:,.2f} GFLOP an image",
        f"devices: {mesh.size} × {jax.devices()[0].device_kind}",
    ]
    if config.model.preset != "ebgan":  # whose convolutions have one form
        lines.insert(-1, f"convolutions: {config.model.conv}")
    return "\n".join(lines)
