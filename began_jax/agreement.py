"""What the processes of a run must have alike before it begins."""

import jax
import numpy as np

from began_jax import config as config_lib
from began_jax import processes
from began_jax.config import ConfigError
from began_jax.data import identity
from began_jax.schema import Config


def check_settings(config: Config) -> None:
    """Raises ConfigError if this process has other settings than the first, but for data.path."""
    own = config_lib.flatten(config)
    first = processes.from_first(lambda: own)
    differing = [name for name in own if own[name] != first[name] and name != "data.path"]
    if differing:
        told = ", ".join(f"{name} = {own[name]!r}, there {first[name]!r}" for name in differing)
        raise ConfigError(
            f"config: process {jax.process_index()} has other settings than the first: {told}"
        )


def check_images(images: np.ndarray) -> None:
    """Raises ConfigError if this process has other images than the first."""
    own = identity.of(images) if processes.are_several() else {}
    if own != processes.from_first(lambda: own):
        raise ConfigError(
            f"config.data: {len(images)} images in process {jax.process_index()} that are not "
            "those of the first"
        )
