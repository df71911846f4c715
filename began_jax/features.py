"""What a feature network sees in a set of images, and that of a run's data kept in the cache."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from began_jax import blocks, files, progress
from began_jax.metrics import frechet, inception_score
from began_jax.metrics.networks import FeatureNetwork

# So many features are kept for the distances that compare them one by one.
_MOST_KEPT = 10_000
_VERSION = 2  # raise it with every change of what a reference holds


class Features(NamedTuple):
    """What a set of images leaves behind, of bounded size."""

    moments: frechet.Moments  # of all
    kept: np.ndarray  # float32 (up to 10,000, F), the first
    classes: inception_score.Splits | None  # of all, where the network has classes


def of_blocks(
    network: FeatureNetwork, images: Iterable[np.ndarray], num: int, label: str
) -> Features:
    """Looks once at `num` ≥ 10 images, uint8 (B, H, W, C) a block; the label is the bar's."""
    apply = jax.jit(network.apply)
    mesh = blocks.mesh_for(num)
    params = blocks.replicate(network.params, mesh)
    moments: frechet.Moments | None = None
    kept: list[np.ndarray] = []
    classes: inception_score.Splits | None = None
    with progress.bar(num, label, "images") as advance:
        for block in images:
            features, logits = blocks.map_rows(apply, block, params, mesh=mesh)
            if moments is None:
                moments = frechet.empty(features.shape[1])
            moments = frechet.add(moments, features)
            if sum(map(len, kept)) < _MOST_KEPT:
                kept.append(features)
            if logits is not None:
                if classes is None:
                    classes = inception_score.empty(num, logits.shape[1])
                classes = inception_score.add(classes, logits)
            advance(len(block))
    assert moments is not None
    return Features(moments, np.concatenate(kept)[:_MOST_KEPT], classes)


def of_images(
    network: FeatureNetwork, images: np.ndarray, indices: np.ndarray, label: str
) -> Features:
    """`of_blocks` of those of `images`, uint8 (N, H, W, C), that `indices` names."""
    return of_blocks(network, take(images, indices), len(indices), label)


def reference(
    network: FeatureNetwork, images: np.ndarray, indices: np.ndarray
) -> tuple[Features, str]:
    """As `of_images`, without classes, from the cache or made and put there; and its key there.

    The key is a SHA-256 of the images as they are compared, so of their size and number too, of
    the network and of its weights.

    Raises:
      UserError: the cache's file cannot be read.
    """
    digest = hashlib.sha256()
    for block in take(images, indices):
        digest.update(block.tobytes())
    key = {
        "version": _VERSION,
        "images": digest.hexdigest(),
        "shape": [len(indices), *images.shape[1:]],
        "network": network.name,
        "network_sha256": network.sha256,
    }

    def make() -> dict[str, Any]:
        found = of_images(network, images, indices, "reference")
        return {**found.moments._asdict(), "kept": found.kept}

    def read(saved: Mapping[str, np.ndarray]) -> Features:
        moments = frechet.Moments(int(saved["count"]), saved["mean"], saved["scatter"])
        return Features(moments, saved["kept"], None)

    return files.cached_npz("reference", key, make, read)


def take(images: np.ndarray, indices: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the images with these indices, one block of `blocks.slices` at a time."""
    for part in blocks.slices(len(indices)):
        yield images[indices[part]]
