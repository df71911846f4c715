"""What a config holds: frozen dataclasses of plain values.

`configs/base.py` gives every field its default, unit and meaning; `rules.py` says what is allowed.
Everything below receives these, never a ConfigDict.
"""

import dataclasses
import math

BOTTLENECK_SIZE = 8  # height and width at the encoder/decoder boundary, at every resolution


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The two networks; see `began_jax/models`."""

    preset: str
    resolution: int
    channels: int
    n: int
    n_h: int
    n_z: int
    repeats: int
    skips: bool
    carry_steps: int
    init: str
    dtype: str
    conv: str

    @property
    def num_scales(self) -> int:
        """S = log2(resolution / 8), the number of halvings down to 8×8."""
        return int(math.log2(self.resolution // BOTTLENECK_SIZE))

    @property
    def code_size(self) -> int:
        """The numbers of a code of D: N_h or, of preset "ebgan", 4n maps of R/8 × R/8."""
        if self.preset == "ebgan":
            return (self.resolution // 8) ** 2 * 4 * self.n
        return self.n_h


@dataclasses.dataclass(frozen=True)
class BeganConfig:
    """BEGAN's objective and its controller; see `objectives/began.py` and `equilibrium.py`."""

    gamma: float
    lambda_k: float
    lambda_p: float
    k_init: float
    eta: int
    shared_z: bool
    alternating: bool


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Which objective, and what the others than BEGAN need; see `began_jax/objectives`."""

    name: str
    cs_weight: float
    noise_level: float
    noise_steps: int
    kl_weight: float
    margin: float
    pt_weight: float


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Adam, the plateau rule and the moving average; see `optimizers.py`."""

    learning_rate: float
    b1: float
    b2: float
    decay_window_steps: int
    decay_threshold: float
    min_learning_rate: float
    ema_half_life_images: int


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where the images come from and how they become squares; see `began_jax/data`."""

    source: str
    name: str
    split: str
    path: str
    crop: str
    crop_size: int
    max_bad_fraction: float
    num_images: int
    flip: bool


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The loop; see `train.py`."""

    batch_size: int
    microbatches: int
    shard_optimizer: bool
    num_steps: int
    steps_per_dispatch: int
    num_samples: int
    log_every_steps: int
    sample_every_images: int
    checkpoint_every_steps: int
    checkpoints_to_keep: int
    keep_checkpoint_every_steps: int


@dataclasses.dataclass(frozen=True)
class HealthConfig:
    """When a run is unwell, and what then; see `health.py`."""

    policy: str
    max_rollbacks: int
    window_steps: int
    grace_images: int


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """What a checkpoint's samples are compared by; see `evaluate.py`."""

    network: str
    weights: str
    num_samples: int
    num_seeds: int
    every_steps: int
    samples_in_training: int


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that defines a run."""

    name: str
    seed: int
    model: ModelConfig
    began: BeganConfig
    objective: ObjectiveConfig
    optim: OptimConfig
    data: DataConfig
    train: TrainConfig
    health: HealthConfig
    eval: EvalConfig
