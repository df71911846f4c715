"""What all studies share on one GPU: CelebA at 64×64, n = 64, 200,000 steps of 16 images.

    python main.py --config=configs/studies/full.py

configs/celeba64.py, as long as the paper calls good. Its evaluation wants the FID's network, which
README.md tells how to convert: inception.npz in the working directory, or
--config.eval.weights=<file>.

Hardware and time: not yet run.
Expected: not yet run.
"""

from ml_collections import ConfigDict

from configs import celeba64


def get_config() -> ConfigDict:
    config = celeba64.get_config()
    config.name = "full"
    config.train.num_steps = 200_000
    # About a sixth of the run, so that the curves of studies have seven points.
    config.train.keep_checkpoint_every_steps = 32_000
    config.eval.network = "inception"
    config.eval.weights = "inception.npz"
    return config
