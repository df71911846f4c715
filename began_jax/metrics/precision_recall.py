"""Improved precision and recall: how much of either set of features the other one covers.

(Kynkäänniemi et al., arXiv 1904.06991.)
"""

from collections.abc import Iterator

import numpy as np


def precision_recall(
    real: np.ndarray, fake: np.ndarray, *, k: int, block: int = 1000
) -> tuple[float, float]:
    """Precision: the share of fakes that lie on the reals' manifold. Recall: the reverse.

    A point lies on a set's manifold if it is in the ball around one of the set's points that
    reaches to that point's k-th nearest neighbour in the set, the point itself not counted. Both
    depend on the sizes of the sets: compare at equal ones.

    Args:
      real: features (N, F).
      fake: features (M, F).
      k: the neighbour that sets the radius; the paper takes 3.
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
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(
            f"k {k} of {len(real)} and {len(fake)} feature vectors;"
            " needed is at least 1 and less than either"
        )
    return _share(fake, real, k, block), _share(real, fake, k, block)


def _share(points: np.ndarray, centers: np.ndarray, k: int, block: int) -> float:
    """The share of the points that lie in a ball around a center."""
    radii = _squared_radii(centers, k, block)
    inside = [(rows <= radii).any(axis=1) for _, rows in _squared_distances(points, centers, block)]
    return float(np.concatenate(inside).mean())


def _squared_radii(centers: np.ndarray, k: int, block: int) -> np.ndarray:
    radii = []
    for first, rows in _squared_distances(centers, centers, block):
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
