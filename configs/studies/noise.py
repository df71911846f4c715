"""An open question of the paper: when and how much noise to add to D's input."""

from began_jax.schema import Config
from launch.studies import Study

LEVELS = (0, 0.05, 0.1, 0.2)  # of the range of pixels


def get_study(base: Config) -> Study:
    def point(level: float, steps: int) -> str:
        noise = f"config.objective.noise_level={level} config.objective.noise_steps={steps}"
        return f"config.objective.name=denoising {noise}"

    num_steps = base.train.num_steps
    return Study(
        question="Does noise on D's input help, and should it end?",
        points={
            **{f"σ = {level}, constant": point(level, 0) for level in LEVELS},
            **{f"σ = {level}, falling to 0": point(level, num_steps) for level in LEVELS[1:]},
        },
        axis="objective.noise_level",
        line="objective.noise_steps",
    )
