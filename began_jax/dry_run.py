"""Parameters, memory and work of a run, without running it."""

import jax

from began_jax import backends, models, projection, sharding
from began_jax import config as config_lib
from began_jax.schema import Config
from began_jax.targets import Target


def report(config: Config, target: Target | None = None) -> str:
    """Return the resolved config, and what a train step of it holds and does on one device.

    The step is compiled for the target (None: the devices of this process) and not run.

    Raises:
      UserError: the target's compiler is not installed, or the batch does not divide.
    """
    state = sharding.abstract_state(config, sharding.make_mesh(1, jax.devices()[:1]))
    generator = models.num_parameters(state.generator)
    discriminator = models.num_parameters(state.discriminator)
    head = [
        config_lib.to_json(config).rstrip(),
        f"parameters: {generator + discriminator:,} "
        f"(generator {generator:,}, discriminator {discriminator:,})",
    ]
    body = _here(config) if target is None else projection.report(config, target)
    return "\n".join([*head, *body])


def _here(config: Config) -> list[str]:
    """FLOPs are XLA's count for the program that it is given; a multiply-add counts as two."""
    config = backends.resolve(config)
    mesh = sharding.make_mesh(config.train.batch_size, microbatches=config.train.microbatches)
    lowered = sharding.lower_steps(config, mesh)
    costs = lowered.cost_analysis()
    memory = backends.compile(lowered, config.model).memory_analysis()
    assert memory is not None and costs is not None  # every back end of this project has them
    lines = [
        f"train state: {sharding.state_bytes(config, mesh) / 1e6:,.0f} MB a device",
        f"one step's temporary memory: {memory.temp_size_in_bytes / 1e6:,.0f} MB a device, "
        "as compiled for it",
        f"work: {costs['flops'] / config.train.batch_size / 1e9:,.2f} GFLOP an image",
        f"devices: {mesh.size} × {jax.devices()[0].device_kind}",
    ]
    if config.model.preset != "ebgan":  # whose convolutions have one form
        lines.insert(-1, f"convolutions: {config.model.conv}")
    return lines
