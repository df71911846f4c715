"""Synthetic faces at 32×32: the embedded demo, recognisable and varied within three minutes.

    python main.py --config=configs/demo.py

A short run departs from the paper on purpose: batches of 8 (many small steps), a learning rate
seven times the paper's, λ_k = 0.05 (0.001 would need ten thousand steps to bring k near 0.1), γ =
0.7 (at 0.5 the samples were slower to spread), 24 latents and codes and β1 = 0.5 (with 64 and 0.9
samples vary less so early), one draw of z a step, no vanishing residual, a shorter average.
docs/results.md tells what was tried.

Hardware and time: two cores of an AMD EPYC server, two and a half minutes in all.
Expected: sample_spread about 0.7, M_global about 0.069 (three seeds; docs/results.md).
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "demo"
    config.model.resolution = 32
    config.model.n = 16
    config.model.n_h = 24
    config.model.n_z = 24
    config.model.carry_steps = 0
    config.began.gamma = 0.7
    config.began.lambda_k = 0.05
    config.began.shared_z = True
    config.optim.learning_rate = 7e-4
    config.optim.b1 = 0.5
    config.optim.ema_half_life_images = 2_000
    config.train.batch_size = 8
    config.train.num_steps = 6_000
    config.train.log_every_steps = 200
    config.train.sample_every_images = 8_000
    config.train.checkpoint_every_steps = 1_000
    config.health.window_steps = 2_000
    config.health.grace_images = 24_000
    return config
