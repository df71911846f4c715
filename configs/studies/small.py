"""What all studies share on two CPU cores: synthetic faces at 16×16, a minute a run.

    python main.py --config=configs/studies/small.py

configs/demo.py at half its resolution, with the N_h, N_z, β1 of configs/base.py and ten times its
learning rate; the demo's docstring tells how the rest departs from the paper.

Hardware and time: two cores of an Intel Xeon server, 43 seconds.
Expected: sample_spread about 0.63, M_global about 0.035 (three seeds).
"""

from ml_collections import ConfigDict

from configs import demo


def get_config() -> ConfigDict:
    config = demo.get_config()
    config.name = "small"
    config.model.resolution = 16
    config.model.n_h = 64
    config.model.n_z = 64
    config.optim.learning_rate = 1e-3
    config.optim.b1 = 0.9
    # A sixth of the run, so that the curves of studies have six points.
    config.train.keep_checkpoint_every_steps = 1_000
    config.eval.num_samples = 5_000
    config.eval.num_seeds = 1
    return config
