"""What the skips from h_0 are worth, at a resolution that has some."""

from began_jax.schema import Config
from launch.studies import Study


def get_study(base: Config) -> Study:
    size = f"config.model.resolution={max(32, base.model.resolution)}"
    return Study(
        question="What are the skips worth?",
        points={"skips": size, "no skips": f"{size} config.model.skips=False"},
    )
