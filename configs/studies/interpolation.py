"""The paper's Fig. 4: what lies between two images."""

from began_jax.schema import Config
from launch.studies import Study


def get_study(base: Config) -> Study:
    return Study(
        question="Do images that G has not made have latents, and what lies between them?",
        points={"base": ""},
        num_seeds=1,
        pictures={
            "an image and its mirror image": "--mode=interpolate --between=mirror --num=4",
            "two images": "--mode=interpolate --between=images --num=4",
            "two latents": "--mode=interpolate --between=latents --num=4",
            "images, and the nearest G(z) beside each": "--mode=invert --num=20",
        },
    )
