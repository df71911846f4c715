"""CIFAR-10 at 32×32, n = 64, independent z_D and z_G.

    python main.py --config=configs/cifar10.py

Downloads and prepares the data set (163 MB) at the first start.

Hardware and time: not yet run at this size.
Expected: not yet run; docs/results.md tells of a run at a quarter of its width.
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
