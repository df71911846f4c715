"""The Inception score: are samples each of one class, and together of many?

(Salimans et al., arXiv 1606.03498.)
"""

from typing import NamedTuple

import numpy as np
from scipy import special

NUM_SPLITS = 10


class Splits(NamedTuple):
    """What the score needs to know of the logits seen so far; the splits follow one another."""

    bounds: np.ndarray  # int64 (S + 1,), where each begins among all samples
    seen: int
    probabilities: np.ndarray  # float64 (S, K), the sums of p(y|x)
    negative_entropies: np.ndarray  # float64 (S,), the sums of Σ_y p(y|x) log p(y|x)


def empty(num_samples: int, num_classes: int, num_splits: int = NUM_SPLITS) -> Splits:
    """Before the first of `num_samples` samples.

    Raises:
      ValueError: there are fewer samples than splits.
    """
    if not 1 <= num_splits <= num_samples:
        raise ValueError(
            f"num_splits {num_splits} of {num_samples} samples; needed is 1 to their number"
        )
    bounds = np.arange(num_splits + 1) * num_samples // num_splits
    return Splits(bounds, 0, np.zeros((num_splits, num_classes)), np.zeros(num_splits))


def add(splits: Splits, logits: np.ndarray) -> Splits:
    """With the next samples' finite logits (N, K): in blocks or at once, the result is the same."""
    log_p = special.log_softmax(np.asarray(logits, np.float64), axis=1)
    p = np.exp(log_p)
    of_sample = splits.seen + np.arange(len(p))
    split = np.searchsorted(splits.bounds, of_sample, side="right") - 1
    probabilities, negative_entropies = (
        splits.probabilities.copy(),
        splits.negative_entropies.copy(),
    )
    np.add.at(probabilities, split, p)
    np.add.at(negative_entropies, split, (p * log_p).sum(axis=1))
    return Splits(splits.bounds, splits.seen + len(p), probabilities, negative_entropies)


def score(splits: Splits) -> tuple[float, float]:
    """exp(mean over x of KL(p(y|x) ‖ p(y))): from 1, the worst, to K, the number of classes.

    p(y|x) is the softmax of a classifier's logits; p(y) is its mean over the samples of a split.
    The splits are those of the order given, so samples sorted in any way must be shuffled first.
    The fewer samples in a split, the lower its score.

    Returns:
      The mean of the splits' scores and, as the paper has it, their standard deviation (ddof 0),
      which is no standard error.

    Raises:
      ValueError: not all samples were seen.
    """
    if splits.seen != splits.bounds[-1]:
        raise ValueError(f"{splits.seen} samples; needed are {splits.bounds[-1]}")
    sizes = np.diff(splits.bounds)
    marginals = splits.probabilities / sizes[:, None]
    entropies = -special.xlogy(marginals, marginals).sum(axis=1)  # a class may have no share
    scores = np.exp(splits.negative_entropies / sizes + entropies)
    return float(scores.mean()), float(scores.std())
