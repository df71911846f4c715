"""CIFAR-10 at 32×32, n = 64.

python main.py --config=configs/cifar10.py
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "cifar10"
    config.model.resolution = 32
    config.model.n = 64
    config.data.source = "tfds"
    config.data.name = "cifar10"
    config.data.flip = True
    return config
