"""CelebA-HQ at 256×256, n = 128: beyond the paper, by the same rule.

    python main.py --config=configs/celeba256.py

TFDS prepares celeb_a_hq with TensorFlow alone: the first start says how. A folder of the images
works as well: --config.data.source=folder --config.data.path=DIR.

Hardware and time: not yet run.
Expected: not yet run.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "celeba256"
    config.model.resolution = 256
    config.model.n = 128
    config.data.source = "tfds"
    config.data.name = "celeb_a_hq/256"
    config.data.flip = True
    return config
