"""Multi-scale structural similarity (Wang, Simoncelli, Bovik 2003), and diversity by it."""

import numpy as np

# Of the scales, from the finest; as published, where they add up to 1.0001.
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW = 11  # pixels
_SIGMA = 1.5  # pixels
_C1 = (0.01 * 255.0) ** 2
_C2 = (0.03 * 255.0) ** 2

_BLOCK = 100  # pairs


def ms_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The similarity of each a_i to b_i, uint8 (N, H, W, C): float64 (N,) in [0, 1], 1 if equal.

    Five scales, each half the size of the last, or as many as hold the 11-pixel Gaussian window
    (from 176 pixels on five, at 128 four, at 64 three, at 32 two), the weights of the fewer divided
    by their sum: values of different resolutions do not compare. Contrast and structure come from
    every scale, luminance from the coarsest. Each channel on its own, then their mean. The window
    is kept inside the image; an odd row or column is dropped when halving. A mean that is negative
    counts as 0, as its power would not be a number. Takes about a dozen float64 copies of the
    images.

    Raises:
      ValueError: the images are not uint8, not of one shape, or smaller than the window.
    """
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(f"images of {a.dtype} and {b.dtype}; needed are uint8, 0..255")
    if a.ndim != 4 or a.shape != b.shape:
        raise ValueError(f"images of shapes {a.shape} and {b.shape}; needed are equal (N, H, W, C)")
    if min(a.shape[1:3]) < _WINDOW:
        raise ValueError(
            f"images of {a.shape[1]}×{a.shape[2]} pixels; needed are at least {_WINDOW}×{_WINDOW}"
        )
    a, b = a.astype(np.float64), b.astype(np.float64)
    sides = min(a.shape[1:3]) // 2 ** np.arange(len(_WEIGHTS))
    weights = np.array(_WEIGHTS)[sides >= _WINDOW]
    if len(weights) < len(_WEIGHTS):
        weights /= weights.sum()
    result = np.ones((len(a), a.shape[3]))
    for scale, weight in enumerate(weights):
        if scale > 0:
            a, b = _halve(a), _halve(b)
        luminance, contrast_structure = _terms(a, b)
        is_coarsest = scale == len(weights) - 1
        term = luminance * contrast_structure if is_coarsest else contrast_structure
        result *= np.maximum(term.mean(axis=(1, 2)), 0.0) ** weight
    return result.mean(axis=1)


def diversity(images: np.ndarray, *, num_pairs: int, seed: int) -> float:
    """The mean MS-SSIM of random pairs of different images of uint8 (N, H, W, C), in [0, 1].

    Higher means less diverse (Odena et al., arXiv 1610.09585); a data set's own value at the same
    resolution is what to compare with. A pair may be drawn again.

    Raises:
      ValueError: there are fewer than 2 images, or no pairs; or as `ms_ssim`.
    """
    if len(images) < 2 or num_pairs < 1:
        raise ValueError(
            f"{num_pairs} pairs of {len(images)} images; needed are at least 1 pair of 2 images"
        )
    generator = np.random.default_rng(seed)
    first = generator.integers(len(images), size=num_pairs)
    second = (first + generator.integers(1, len(images), size=num_pairs)) % len(images)
    total = 0.0
    for i in range(0, num_pairs, _BLOCK):
        total += ms_ssim(images[first[i : i + _BLOCK]], images[second[i : i + _BLOCK]]).sum()
    return float(total / num_pairs)


def _terms(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """l and c · s at each place of the window: both (N, H − 10, W − 10, C)."""
    mean_a, mean_b = _blur(a), _blur(b)
    variances = _blur(a * a + b * b) - mean_a**2 - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    luminance = (2.0 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return luminance, (2.0 * covariance + _C2) / (variances + _C2)


def _blur(x: np.ndarray) -> np.ndarray:
    """The Gaussian window's means, one axis after the other."""
    window = np.exp(-((np.arange(_WINDOW) - _WINDOW // 2) ** 2) / (2.0 * _SIGMA**2))
    window /= window.sum()
    height, width = x.shape[1] - _WINDOW + 1, x.shape[2] - _WINDOW + 1
    x = sum(weight * x[:, i : i + height] for i, weight in enumerate(window))
    return sum(weight * x[:, :, i : i + width] for i, weight in enumerate(window))


def _halve(x: np.ndarray) -> np.ndarray:
    """Means of 2×2 pixels."""
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4.0
