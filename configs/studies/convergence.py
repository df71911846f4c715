"""The paper's Fig. 5: M_global beside what the samples look like, over a run."""

from began_jax.schema import Config
from launch.studies import Study


def get_study(base: Config) -> Study:
    return Study(
        question="Does M_global fall as the samples get better?",
        points={"base": ""},
        every_checkpoint=True,
        pictures={"the same latents at every checkpoint": "--mode=timeline --num=6"},
    )
