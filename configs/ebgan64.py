"""EBGAN-PT (Zhao, Mathieu, LeCun 2016) with its own networks: CelebA at 64×64, n = 64.

    python main.py --config=configs/ebgan64.py

To compare objectives on the same networks, take celeba64.py with --config.objective.name=ebgan_pt.

Hardware and time: not yet run at this size.
Expected: not yet run.
"""

from ml_collections import ConfigDict

from configs import celeba64


def get_config() -> ConfigDict:
    config = celeba64.get_config()
    config.name = "ebgan64"
    config.model.preset = "ebgan"
    config.model.n_z = 100  # DCGAN's [M]
    config.model.carry_steps = 0
    config.objective.name = "ebgan_pt"
    # Theirs, 20, is a Euclidean norm over the 12,288 values of an image in [-1, 1]: as a root mean
    # square of values in [-0.5, 0.5] that is 20 / sqrt(12,288) / 2 = 0.09, as a mean of absolute
    # values (eta 1), were they normal, sqrt(2 / pi) of that [I].
    config.objective.margin = 0.072
    config.optim.learning_rate = 2e-4  # DCGAN's, whose advice they follow [I]
    config.optim.min_learning_rate = 2e-4  # never halved: M_global is not this objective's measure
    config.optim.b1 = 0.5  # DCGAN's [I]
    config.train.batch_size = 64  # PT compares the images of a batch [I]
    config.train.num_steps = 100_000  # as many images as celeba64.py's [I]
    return config
