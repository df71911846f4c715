"""The kernel distance between two sets of features: an unbiased estimate of MMD².

With Inception's features it is the KID (Binkowski et al., arXiv 1801.01401).
"""

import numpy as np


def distance(a: np.ndarray, b: np.ndarray, *, size: int) -> tuple[float, float | None]:
    """MMD² of features (N, F) and (M, F) under the kernel (x·y / F + 1)³: its mean over blocks.

    A block is `size` rows of each, block i those from i · size on; no row is in two blocks, and the
    rows at the end that fill none are left out. As the estimate is unbiased at every size, it is 0
    on average where the distributions are the same, and often below 0.

    Returns:
      The mean, and its standard error, None of one block. The blocks are independent where the rows
      are, so that it is the error of having drawn these features and no others.

    Raises:
      ValueError: the features are of different networks, or a block is larger than a set.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features of shapes {a.shape} and {b.shape}; needed are (N, F), (M, F)")
    if not 2 <= size <= min(len(a), len(b)):
        raise ValueError(
            f"size {size} of {len(a)} and {len(b)} feature vectors;"
            " needed is at least 2 and no more than either"
        )
    num_blocks = min(len(a), len(b)) // size
    rows = [slice(i * size, (i + 1) * size) for i in range(num_blocks)]
    estimates = [_unbiased(a[block], b[block]) for block in rows]
    mean = float(np.mean(estimates))
    if num_blocks == 1:
        return mean, None
    return mean, float(np.std(estimates, ddof=1) / np.sqrt(num_blocks))


def _unbiased(a: np.ndarray, b: np.ndarray) -> float:
    """MMD² of as many rows each; a row's kernel with itself, always too large, is left out."""
    size = len(a)
    k_aa, k_bb = _kernel(a, a), _kernel(b, b)
    within = k_aa.sum() - k_aa.trace() + k_bb.sum() - k_bb.trace()
    return within / (size * (size - 1)) - 2.0 * _kernel(a, b).mean()


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b.T / a.shape[1] + 1.0) ** 3
