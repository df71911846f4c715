"""Synthetic faces at 32×32: the embedded demo, a few minutes on two CPU cores.

python main.py --config=configs/demo.py
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "demo"
    config.model.resolution = 32
    config.model.n = 16
    config.model.carry_steps = 0
    config.began.gamma = 0.7
    config.began.lambda_k = 0.02
    config.began.shared_z = True
    config.optim.learning_rate = 1e-3
    config.train.num_steps = 3_500
    config.train.sample_every_images = 8_000
    config.train.checkpoint_every_steps = 1_000
    return config
