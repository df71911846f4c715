"""An open question of the paper: the best size of the latent space."""

from began_jax.schema import Config
from launch.studies import Study


def get_study(base: Config) -> Study:
    return Study(
        question="How many latents and codes are needed?",
        points={
            f"N = {size}": f"config.model.n_z={size} config.model.n_h={size}"
            for size in (8, 16, 64, 128)
        },
        axis="model.n_z",
    )
