"""Keys as a pure function of (seed, purpose, index), so that a resumed run repeats nothing."""

import enum

import jax
from jax import Array


class Purpose(enum.IntEnum):
    """What a key is for; a purpose never shares a key with another."""

    INIT = 0
    STEP = 1  # index: the step
    SAMPLES = 2  # the fixed latents of a run's grids
    GENERATION = 3  # index: the sample
    INVERSION = 4  # the first latents of a search
    NOISE = 5  # index: the step; of objectives with noise


def key(seed: int | Array, purpose: Purpose, index: int | Array = 0) -> Array:
    """The typed key of a seed (0 to 2^32 − 1), a purpose and an index (0 to 2^31 − 1)."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), purpose), index)
