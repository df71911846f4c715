"""Must D be an auto-encoder? What do a margin, latent codes, noise and a VAE bring?"""

from began_jax import rules
from began_jax.schema import Config
from launch.studies import Study


def get_study(base: Config) -> Study:
    n_z = base.model.n_z  # began_cs compares codes with latents
    rate = base.optim.learning_rate
    # M_global, which halves the learning rate, is no measure of these; a small run has no time to.
    is_long = base.train.num_steps > base.optim.decay_window_steps
    constant = f" config.optim.min_learning_rate={rate}" if is_long else ""
    uncontrolled = ("ebgan", "ebgan_pt", "hinge")
    return Study(
        question="What does BEGAN's objective give over its relatives?",
        points={
            name: f"config.objective.name={name} config.model.n_h={n_z}"
            + (constant if name in uncontrolled else "")
            for name in rules.OBJECTIVES
        },
    )
