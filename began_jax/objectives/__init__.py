"""What D and G minimise, by `config.objective.name`: one file each (docs/extending.md)."""

from began_jax.objectives import began, began_cs, denoising, ebgan, hinge, variational
from began_jax.objectives.objective import Context, Objective
from began_jax.schema import Config

__all__ = ["Context", "Objective", "of"]

_OBJECTIVES = {
    "began": began.OBJECTIVE,
    "began_cs": began_cs.OBJECTIVE,
    "denoising": denoising.OBJECTIVE,
    "variational": variational.OBJECTIVE,
    "ebgan": ebgan.OBJECTIVE,
    "ebgan_pt": ebgan.OBJECTIVE_PT,
    "hinge": hinge.OBJECTIVE,
}


def of(config: Config) -> Objective:
    """The objective that the config names."""
    return _OBJECTIVES[config.objective.name]
