"""Must D be an auto-encoder? What do a margin, latent codes, noise and a VAE bring?"""

from began_jax import rules
from began_jax.schema import Config
from launch.studies import Study


def get_study(base: Config) -> Study:
    n_z = base.model.n_z  # began_cs compares codes with latents
    return Study(
        question="What does BEGAN's objective give over its relatives?",
        points={
            name: f"config.objective.name={name} config.model.n_h={n_z}"
            for name in rules.OBJECTIVES
        },
    )
