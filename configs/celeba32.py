"""CelebA at 32×32, n = 64.

    python main.py --config=configs/celeba32.py

Downloads CelebA (1.4 GB) at the first start; where its host's quota is used up, one message says
which files to put where, and that configs/folder.py reads the zip as it is.

Hardware and time: not yet run.
Expected: not yet run.
"""

from ml_collections import ConfigDict

from configs import celeba64


def get_config() -> ConfigDict:
    config = celeba64.get_config()
    config.name = "celeba32"
    config.model.resolution = 32
    return config
