"""Which images a step or a metric sees: pure functions; no shuffle buffer, no state."""

import functools

import numpy as np


@functools.lru_cache(maxsize=2)  # the epoch at hand and, where a batch straddles, the next
def epoch_order(seed: int, epoch: int, num_images: int) -> np.ndarray:
    """A permutation of 0..num_images − 1, int64, independent from epoch to epoch."""
    # Two separate 64-bit words of Philox's key: no two (seed, epoch) share a stream.
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    order = generator.permutation(num_images)
    order.flags.writeable = False
    return order


def batch_indices(seed: int, step: int, batch_size: int, num_images: int) -> np.ndarray:
    """The indices of the batch of a step (from 0), int64 (batch_size,).

    The epochs' permutations follow one another without a gap, so no image repeats inside an epoch
    and none is dropped at its end; a batch may straddle epochs.
    """
    parts = []
    start, stop = step * batch_size, (step + 1) * batch_size
    while start < stop:
        epoch, offset = divmod(start, num_images)
        taken = min(stop - start, num_images - offset)
        parts.append(epoch_order(seed, epoch, num_images)[offset : offset + taken])
        start += taken
    return np.concatenate(parts)


def subset(num_images: int, num: int) -> np.ndarray:
    """`num` of 0..num_images − 1 (all, where there are fewer), int64, in random order.

    Always the same, and those of a smaller `num` come first. A data set's own order may follow its
    classes or sources, so that its first images say little of all.
    """
    return np.random.default_rng(0).permutation(num_images)[:num]
