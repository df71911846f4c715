"""BEGAN (Berthelot, Schumm, Metz 2017): L is the auto-encoder's error."""

from jax import Array

from began_jax import losses, models
from began_jax.models import Params
from began_jax.objectives.objective import Context, of_energy
from began_jax.schema import Config


def energy(config: Config, d: Params, v: Array, context: Context, keys: Array) -> Array:
    """Return mean |v − D(v)|^η over pixels and channels for each image (section 3.1)."""
    del keys
    reconstruction = models.reconstruct(config.model, d, v, context.carry)
    return losses.reconstruction_errors(v, reconstruction, config.began.eta)


OBJECTIVE = of_energy(energy)
