"""Improved precision and recall: how much of either set of features the other one covers.

(Kynkäänniemi et al., arXiv 1904.06991.)
"""

from collections.abc import Iterator

import numpy as np


def precision_recall(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    k: int,
    radii_of_real: np.ndarray | None = None,
    block: int = 1000,
) -> tuple[float, float]:
    """Precision: the share of fakes that lie on the reals' manifold. Recall: the reverse.

    A point lies on a set's manifold if it is in the ball around one of the set's points that
    reaches to that point's k-th nearest neighbour in the set, the point itself not counted. Both
    depend on the sizes of the sets: compare at equal ones.

    Args:
      real: features (N, F).
      fake: features (M, F).
      k: the neighbour that sets the radius; the paper takes 3.
      radii_of_real: `squared_radii` of real and k, where they are known already.
      block: rows of distances held at once; memory is block · max(N, M) float64.

    Returns:
      Two numbers in [0, 1].

    Raises:
      ValueError: the sizes differ, or a set has not more than k points.
    """
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"features of shapes {real.shape} and {fake.shape}; needed are (N, F), (M, F)"
        )
    if radii_of_real is None:
        radii_of_real = squared_radii(real, k, block=block)
    radii_of_fake = squared_radii(fake, k, block=block)
    precise, recalled = np.zeros(len(fake), bool), np.zeros(len(real), bool)
    for first, rows in _squared_distances(fake, real, block):
        part = slice(first, first + len(rows))
        precise[part] = (rows <= radii_of_real).any(axis=1)
        recalled |= (rows <= radii_of_fake[part, None]).any(axis=0)
    return float(precise.mean()), float(recalled.mean())


def squared_radii(features: np.ndarray, k: int, *, block: int = 1000) -> np.ndarray:
    """(N,) squared distances from each of the features (N, F) to its k-th nearest other one.

    Raises:
      ValueError: there are not more than k.
    """
    if not 1 <= k < len(features):
        raise ValueError(f"k {k} of {len(features)} feature vectors; needed is 1 or more, and less")
    features = np.asarray(features, np.float64)
    radii = []
    for first, rows in _squared_distances(features, features, block):
        own = np.arange(len(rows))
        rows[own, first + own] = np.inf  # not "the smallest": rounding, and equal points
        radii.append(np.partition(rows, k - 1, axis=1)[:, k - 1])
    return np.concatenate(radii)


def _squared_distances(
    a: np.ndarray, b: np.ndarray, block: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks (up to `block`, len(b)) of |a_i − b_j|², each with its first i."""
    squares_b = np.square(b).sum(axis=1)
    for first in range(0, len(a), block):
        part = a[first : first + block]
        squares = np.square(part).sum(axis=1, keepdims=True) + squares_b
        yield first, np.maximum(squares - 2.0 * (part @ b.T), 0.0)
