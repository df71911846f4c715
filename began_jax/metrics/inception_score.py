"""The Inception score: are samples each of one class, and together of many?

(Salimans et al., arXiv 1606.03498.)
"""

import itertools

import numpy as np


def score(logits: np.ndarray, *, num_splits: int = 10) -> tuple[float, float]:
    """exp(mean over x of KL(p(y|x) ‖ p(y))): from 1, the worst, to K, the number of classes.

    p(y|x) is the softmax of a classifier's finite logits (N, K); p(y) is its mean over the samples
    of a split. The splits follow one another in the order given, so samples sorted in any way must
    be shuffled first. The fewer samples in a split, the lower its score.

    Returns:
      The mean of the splits' scores and, as the paper has it, their standard deviation (ddof 0),
      which is no standard error.

    Raises:
      ValueError: there are fewer logits than splits.
    """
    logits = np.asarray(logits, np.float64)
    if not 1 <= num_splits <= len(logits):
        raise ValueError(
            f"num_splits {num_splits} of {len(logits)} samples; needed is 1 to their number"
        )
    log_p = logits - _log_sum_exp(logits, axis=1)
    bounds = np.arange(num_splits + 1) * len(logits) // num_splits
    scores = [_score(log_p[i:j]) for i, j in itertools.pairwise(bounds)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(log_p: np.ndarray) -> float:
    # From the logarithms, as the mean of p itself may be 0 for a class: 0 · log 0.
    log_marginal = _log_sum_exp(log_p, axis=0) - np.log(len(log_p))
    divergences = (np.exp(log_p) * (log_p - log_marginal)).sum(axis=1)
    return float(np.exp(divergences.mean()))


def _log_sum_exp(x: np.ndarray, axis: int) -> np.ndarray:
    largest = x.max(axis=axis, keepdims=True)
    return largest + np.log(np.exp(x - largest).sum(axis=axis, keepdims=True))
