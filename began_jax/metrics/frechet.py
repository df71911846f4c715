"""The Fréchet distance between two sets of features, taken as Gaussians.

With Inception's features it is the FID (Heusel et al., arXiv 1706.08500).
"""

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """What the distance needs to know of the feature vectors seen so far."""

    count: int  # type: ignore[assignment]  # also a method of every tuple
    mean: np.ndarray  # float64 (F,)
    scatter: np.ndarray  # float64 (F, F), the sum of outer products of deviations from the mean


def empty(size: int) -> Moments:
    """The moments of no feature vectors of `size` numbers."""
    return Moments(0, np.zeros(size), np.zeros((size, size)))


def add(moments: Moments, features: np.ndarray) -> Moments:
    """The moments with features (N, F) added: in blocks or at once, the result is the same.

    The pairwise update of Chan, Golub, LeVeque (1979): unlike E[x xᵀ] − E[x] E[x]ᵀ it loses no
    digits where the mean is large beside the deviations.

    Raises:
      ValueError: the features are not of the moments' size.
    """
    features = np.asarray(features, np.float64)
    # A feature of one number would else be broadcast without a word.
    if features.ndim != 2 or features.shape[1] != len(moments.mean):
        raise ValueError(f"features of shape {features.shape}; needed is (N, {len(moments.mean)})")
    if len(features) == 0:
        return moments
    mean = features.mean(axis=0)
    deviations = features - mean
    count = moments.count + len(features)
    step = mean - moments.mean
    return Moments(
        count,
        moments.mean + step * (len(features) / count),
        moments.scatter
        + deviations.T @ deviations
        + np.outer(step, step) * (moments.count * len(features) / count),
    )


def covariance(moments: Moments) -> np.ndarray:
    """The unbiased covariance, float64 (F, F); needs at least 2 feature vectors."""
    return moments.scatter / (moments.count - 1)


def distance(a: Moments, b: Moments) -> float:
    """|μ_a − μ_b|² + Tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½), in squared units of a feature; 0 is best.

    (Dowson, Landau 1982.) Estimated from N feature vectors it is too large on average, by about
    c / N where c differs from generator to generator (Chong, Forsyth, arXiv 1911.07023): only
    distances of equal and large N may be compared, and those of N < F say little. Between equal
    moments it is 0 up to rounding, on either side.

    Raises:
      ValueError: there are fewer than 2 feature vectors, or the sizes differ.
    """
    if len(a.mean) != len(b.mean):
        raise ValueError(f"features of {len(a.mean)} and {len(b.mean)} numbers; needed are equal")
    if min(a.count, b.count) < 2:
        raise ValueError(f"{a.count} and {b.count} feature vectors; needed are at least 2 of each")
    difference = a.mean - b.mean
    sigma_a, sigma_b = covariance(a), covariance(b)
    # With Σ_a = R Rᵀ, the product Σ_a Σ_b has the eigenvalues of the symmetric Rᵀ Σ_b R: real,
    # not negative but for rounding, and their roots add up to the trace of its root.
    eigenvalues, vectors = np.linalg.eigh(sigma_a)
    root = vectors * np.sqrt(np.maximum(eigenvalues, 0.0))
    eigenvalues = np.linalg.eigvalsh(root.T @ sigma_b @ root)
    trace_of_root = np.sqrt(np.maximum(eigenvalues, 0.0)).sum()
    return float(
        difference @ difference + np.trace(sigma_a) + np.trace(sigma_b) - 2.0 * trace_of_root
    )
