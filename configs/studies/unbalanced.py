"""The paper's Fig. 6: one of the networks starved by a narrow bottleneck."""

from began_jax.schema import Config
from launch.studies import Study


def get_study(base: Config) -> Study:
    return Study(
        question="Is training stable where one network is far weaker than the other?",
        points={
            "balanced": "config.model.n_z=64 config.model.n_h=64",
            "G starved (N_z = 4)": "config.model.n_z=4 config.model.n_h=64",
            "D starved (N_h = 4)": "config.model.n_z=64 config.model.n_h=4",
        },
    )
