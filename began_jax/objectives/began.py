"""BEGAN (Berthelot, Schumm, Metz 2017): L is the auto-encoder's error."""

from jax import Array

from began_jax import losses, models
from began_jax.models import Params
from began_jax.objectives.objective import Context, of_energy
from began_jax.schema import Config


def energy(config: Config, d: Params, v: Array, context: Context, key: Array) -> Array:
    """L(v) = mean |v − D(v)|^η over the batch, pixels and channels (section 3.1)."""
    del key
    reconstruction = models.reconstruct(config.model, d, v, context.carry)
    return losses.reconstruction_error(v, reconstruction, config.began.eta)


OBJECTIVE = of_energy(energy)
