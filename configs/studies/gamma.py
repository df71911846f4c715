"""The paper's Fig. 3: γ trades sharpness for diversity."""

from began_jax.schema import Config
from launch.studies import Study


def get_study(base: Config) -> Study:
    return Study(
        question="What does γ do to diversity and to quality?",
        points={f"γ = {gamma}": f"config.began.gamma={gamma}" for gamma in (0.3, 0.5, 0.7, 0.9)},
        axis="began.gamma",
    )
