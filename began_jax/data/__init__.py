"""Where the images come from: every source ends as one uint8 array that is read by index."""

import numpy as np

from began_jax.data import array, cache, folder, synthetic_faces
from began_jax.schema import DataConfig

_BLOCK = 1000  # images


def load(config: DataConfig, *, resolution: int, channels: int) -> np.ndarray:
    """All images of the source that `config` names, made ready once and then memory-mapped.

    Returns:
      uint8 (N, resolution, resolution, channels), 0..255; only an .npz stays in memory.

    Raises:
      ConfigError: one line naming the setting that is wrong and what is needed.
    """
    sources = {
        "synthetic_faces": _load_synthetic_faces,
        "tfds": _load_tfds,
        "folder": folder.load,
        "array": array.load,
    }
    return sources[config.source](config, resolution=resolution, channels=channels)


def _load_synthetic_faces(config: DataConfig, *, resolution: int, channels: int) -> np.ndarray:
    key = {
        "source": "synthetic_faces",
        "version": synthetic_faces.VERSION,
        "seed": synthetic_faces.DATA_SEED,
        "resolution": resolution,
        "channels": channels,
    }

    num = config.num_images
    blocks = synthetic_faces.in_blocks(synthetic_faces.DATA_SEED, num, _BLOCK, resolution, channels)
    images = (images for images, _ in blocks)
    shape = (resolution, resolution, channels)
    return cache.prepared(key, num, shape, images, label="synthetic faces")


def _load_tfds(config: DataConfig, *, resolution: int, channels: int) -> np.ndarray:
    from began_jax.data import tfds_source  # here, as it takes a second to import

    return tfds_source.load(config, resolution=resolution, channels=channels)
