"""CelebA at 128×128, n = 128: the paper's largest model, 17,268,038 parameters.

    python main.py --config=configs/celeba128.py

Downloads CelebA (1.4 GB) at the first start; where its host's quota is used up, one message says
which files to put where, and that configs/folder.py reads the zip as it is.

Hardware and time: not yet run (the paper: about 2.5 days on four P100).
Expected: not yet run.
"""

from ml_collections import ConfigDict

from configs import celeba64


def get_config() -> ConfigDict:
    config = celeba64.get_config()
    config.name = "celeba128"
    config.model.resolution = 128
    config.model.n = 128
    return config
