"""The kernel distance between two sets of features: an unbiased estimate of MMD².

With Inception's features it is the KID (Binkowski et al., arXiv 1801.01401).
"""

import numpy as np


def distance(
    a: np.ndarray,
    b: np.ndarray,
    *,
    num_subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """MMD² of features (N, F) and (M, F) under the kernel (x·y / F + 1)³: its mean over subsets.

    Each subset is drawn without replacement, anew from all features. As the estimate is unbiased
    at every size, it is 0 on average where the distributions are the same, and often below 0.

    Returns:
      The mean, and the standard error of that mean over the subsets. The error is that of drawing
      subsets from these features; that of drawing other features adds to it, and dominates where
      num_subsets · subset_size is above N or M.

    Raises:
      ValueError: the sizes differ, a subset is larger than a set, or there is only one subset.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features of shapes {a.shape} and {b.shape}; needed are (N, F), (M, F)")
    if not 2 <= subset_size <= min(len(a), len(b)):
        raise ValueError(
            f"subset_size {subset_size} of {len(a)} and {len(b)} feature vectors;"
            " needed is at least 2 and no more than either"
        )
    if num_subsets < 2:
        raise ValueError(f"num_subsets {num_subsets}; needed are at least 2, for a standard error")
    generator = np.random.default_rng(seed)
    estimates = [
        _unbiased(
            a[generator.choice(len(a), subset_size, replace=False)],
            b[generator.choice(len(b), subset_size, replace=False)],
        )
        for _ in range(num_subsets)
    ]
    return float(np.mean(estimates)), float(np.std(estimates, ddof=1) / np.sqrt(num_subsets))


def _unbiased(a: np.ndarray, b: np.ndarray) -> float:
    """MMD² of as many rows each; a row's kernel with itself, always too large, is left out."""
    size = len(a)
    k_aa, k_bb = _kernel(a, a), _kernel(b, b)
    within = k_aa.sum() - k_aa.trace() + k_bb.sum() - k_bb.trace()
    return within / (size * (size - 1)) - 2.0 * _kernel(a, b).mean()


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b.T / a.shape[1] + 1.0) ** 3
