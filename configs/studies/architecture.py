"""What each part of the networks is worth: one change at a time."""

from began_jax.schema import Config
from launch.studies import Study


def get_study(base: Config) -> Study:
    num_steps = base.train.num_steps
    # At 16×16 there are none: nothing comes after the only up-sampling but the image.
    skips = {"no skips": "config.model.skips=False"} if base.model.num_scales > 1 else {}
    carry = {"no carry": "config.model.carry_steps=0"} if base.model.carry_steps else {}
    draws = "two draws of z" if base.began.shared_z else "one draw of z"
    return Study(
        question="What is each part of the networks worth?",
        points={
            "base": "",
            "preset fig1": "config.model.preset=fig1",
            **skips,
            **carry,
            "carry over 1/6": f"config.model.carry_steps={num_steps // 6}",
            "carry over 1/2": f"config.model.carry_steps={num_steps // 2}",
            draws: f"config.began.shared_z={not base.began.shared_z}",
            "repeats 1": "config.model.repeats=1",
            "repeats 3": "config.model.repeats=3",
            "He init": "config.model.init=he",
            "half n": f"config.model.n={base.model.n // 2}",
        },
    )
