"""CelebA at 64×64, n = 64: the size of the paper's study of γ.

    python main.py --config=configs/celeba64.py

Downloads CelebA (1.4 GB) at the first start; where its host's quota is used up, one message says
which files to put where, and that configs/folder.py reads the zip as it is.

Hardware and time: not yet run at this size.
Expected: not yet run; docs/results.md tells of a run at a quarter of its width.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "celeba64"
    config.model.resolution = 64
    config.model.n = 64
    config.data.source = "tfds"
    config.data.name = "celeb_a"
    config.data.crop = "celeba"
    config.data.flip = True
    return config
