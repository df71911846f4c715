"""What tells one prepared data set from another, and how far its images differ."""

import hashlib
import json
from pathlib import Path

import numpy as np

from began_jax import errors, files
from began_jax.config import ConfigError

_NUM_LOOKED_AT = 1024


def note(path: Path, images: np.ndarray) -> None:
    """Record in the file `path` which images a run sees."""
    files.write_text(path, json.dumps(of(images)) + "\n")


def check(path: Path, images: np.ndarray) -> None:
    """Compares images with those that the file `path` notes.

    Compared are their number, size and up to 1,024 of them, evenly spaced. A run that went on with
    other images would not be the run it was, nor could its samples be compared with them.

    Raises:
      ConfigError: the images are not those of the run's start.
      UserError: the file is not there or cannot be read.
    """
    known = files.read_json(path)
    if known is None:
        raise errors.UserError(f"{path}: not there, so nothing tells which images the run saw")
    if known != of(images):
        raise ConfigError(
            f"config.data: {len(images)} images that are not those of {path.parent}'s run"
        )


def spread(images: np.ndarray) -> float:
    """`generate.spread` of up to 1,024 uint8 images, in units of [−0.5, 0.5].

    Raises:
      ConfigError: the images do not differ.
    """
    deviation = np.sqrt(np.mean(np.var(_some(images), axis=0, dtype=np.float32))) / 255.0
    if deviation == 0:
        raise ConfigError(
            f"config.data: {len(images)} images, all the same; varied ones are needed"
        )
    return float(deviation)


def of(images: np.ndarray) -> dict[str, object]:
    """The number, size and a SHA-256 of up to 1,024, evenly spaced, of the images."""
    digest = hashlib.sha256(np.ascontiguousarray(_some(images)).tobytes()).hexdigest()
    return {"shape": list(images.shape), "sha256_of_some": digest}


def _some(images: np.ndarray) -> np.ndarray:
    return images[:: -(-len(images) // _NUM_LOOKED_AT)]
