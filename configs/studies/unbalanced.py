"""The paper's Fig. 6: one of the networks starved by a narrow bottleneck."""

from began_jax.schema import Config
from launch.studies import Study


def get_study(base: Config) -> Study:
    # The paper's sizes at 64×64; what starves the small networks has to be smaller.
    few, many = (16, 128) if base.model.resolution >= 64 else (4, 64)
    return Study(
        question="Is training stable where one network is far weaker than the other?",
        points={
            "balanced": "config.model.n_z=64 config.model.n_h=64",
            f"G starved (N_z = {few})": f"config.model.n_z={few} config.model.n_h={many}",
            f"D starved (N_h = {few})": f"config.model.n_z={many} config.model.n_h={few}",
        },
    )
