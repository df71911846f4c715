"""Soft-shaded portrait faces drawn by code: an embedded data set with known factors of variation.

An image is a pure function of ``(seed, index)`` and is drawn at any resolution from 16 to 256 px.
The factors are returned with it, so the diversity of a generative model can be measured against
the truth. All factors are independent. A continuous factor is uniform on its range:

    skin_tone         [0, 1]   light to dark
    hair_tone         [0, 1]   black, browns, auburn, blond, white (also brows and beard)
    background_hue    [0, 1]   circular: 0 and 1 are the same hue
    background_light  [0, 1]   dark to light
    clothing_hue      [0, 1]   circular
    face_shape        [0, 1]   slim with a narrow chin to wide with a square jaw
    yaw               [-1, 1]  head turned to the image's left to right, +-26 degrees
    tilt              [-1, 1]  head rolled counter-clockwise to clockwise, +-14 degrees
    light             [-1, 1]  key light from the image's left to right
    eye_tone          [0, 1]   dark brown, hazel, green, blue
    eye_openness      [0, 1]   nearly closed to wide open
    brow              [-1, 1]  low and frowning to high and raised
    smile             [-1, 1]  corners of the mouth down to up
    mouth_open        [0, 1]   closed to open, with teeth

A categorical factor takes its values with the probabilities given in ``FACTORS``:

    hair_style   0 bald, 1 cropped, 2 side-swept, 3 bob with fringe, 4 long, 5 afro, 6 beanie
    glasses      0 none, 1 clear, 2 dark
    beard        0 none, 1 stubble, 2 full

Per pixel, only operations that IEEE 754 rounds exactly are used (+, -, *, /, sqrt, min, max,
remainder), so the bytes depend neither on how the rows are chunked nor on the vector unit.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from began_jax.data import face_painting

MIN_RESOLUTION, MAX_RESOLUTION = 16, 256
VERSION = 1  # raise it with every change of what is drawn
DATA_SEED = 0  # of the data that runs train on


class Factor(NamedTuple):
    """One factor: uniform on [low, high], or 0 .. num_values - 1 with the given probabilities.

    Its kind is "continuous", "circular" (where low and high are the same) or "categorical".
    """

    name: str
    kind: str
    low: float
    high: float
    num_values: int = 0
    probabilities: tuple[float, ...] = ()


def _continuous(name: str, low: float = 0.0) -> Factor:
    return Factor(name, "continuous", low, 1.0)


def _circular(name: str) -> Factor:
    return Factor(name, "circular", 0.0, 1.0)


def _categorical(name: str, *probabilities: float) -> Factor:
    num = len(probabilities)
    return Factor(name, "categorical", 0.0, num - 1.0, num, probabilities)


FACTORS = (
    _continuous("skin_tone"),
    _continuous("hair_tone"),
    _circular("background_hue"),
    _continuous("background_light"),
    _circular("clothing_hue"),
    _continuous("face_shape"),
    _continuous("yaw", -1.0),
    _continuous("tilt", -1.0),
    _continuous("light", -1.0),
    _continuous("eye_tone"),
    _continuous("eye_openness"),
    _continuous("brow", -1.0),
    _continuous("smile", -1.0),
    _continuous("mouth_open"),
    _categorical("hair_style", 0.06, 0.16, 0.2, 0.18, 0.2, 0.1, 0.1),
    _categorical("glasses", 0.75, 0.17, 0.08),
    _categorical("beard", 0.7, 0.15, 0.15),
)

# Pixels of one internal chunk: its arrays stay in the CPU's cache, which is what sets the speed.
_CHUNK_PIXELS = 1 << 16
# A smaller image is a box mean of a canvas of at least this side: eyes need the samples.
_MIN_CANVAS = 32


def sample_factors(seed: int, indices: np.ndarray) -> np.ndarray:
    """Draws the factors of each index from a counter-based hash of (seed, index, column).

    Args:
      seed: integer in [0, 2**64).
      indices: (N,) non-negative integers.

    Returns:
      float32 (N, len(FACTORS)); row i depends on (seed, indices[i]) alone. Ranges and
      distributions are those of the module docstring; categorical values are whole numbers.

    Raises:
      ValueError: if the seed or an index is out of range, or indices is not 1-D and integer.
    """
    indices = np.asarray(indices)
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be in [0, 2**64), got {seed}")
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise ValueError(f"indices must be 1-D integers, got {indices.dtype} {indices.shape}")
    if indices.size and indices.min() < 0:
        raise ValueError(f"indices must be >= 0, got {indices.min()}")
    rows = _mix(_mix(np.array([seed], np.uint64)) + _mix(indices.astype(np.uint64)))
    columns = _mix(np.arange(1, len(FACTORS) + 1, dtype=np.uint64) << np.uint64(32))
    bits = _mix(rows[:, None] ^ columns) >> np.uint64(40)
    uniform = bits.astype(np.float32) * np.float32(2.0**-24)
    for column, factor in enumerate(FACTORS):
        value = uniform[:, column]
        if factor.kind == "categorical":
            steps = np.cumsum(factor.probabilities)[:-1]
            uniform[:, column] = np.searchsorted(steps, value, side="right")
        else:
            uniform[:, column] = factor.low + (factor.high - factor.low) * value
    return uniform


def render(factors: np.ndarray, resolution: int, channels: int = 3) -> np.ndarray:
    """Draws one face per row of factors.

    Args:
      factors: (N, len(FACTORS)) values in the ranges of FACTORS.
      resolution: image side in pixels, 16 to 256.
      channels: 3 for RGB, 1 for luma (Rec. 601 weights).

    Returns:
      uint8 (N, resolution, resolution, channels), in [0, 255]. An image depends on its own row
      alone. Working memory beside the result is a few tens of MB whatever N.

    Raises:
      ValueError: if the shape or a value of factors, the resolution or channels is not allowed.
    """
    factors = np.asarray(factors, np.float32)
    _check(factors, resolution, channels)
    scale = -(-_MIN_CANVAS // resolution)
    side = resolution * scale
    step = max(1, _CHUNK_PIXELS // side**2)
    images = np.empty((len(factors), resolution, resolution, channels), np.uint8)
    for start in range(0, len(factors), step):
        columns = factors[start : start + step].T
        named = {factor.name: column for factor, column in zip(FACTORS, columns, strict=True)}
        canvas = face_painting.paint(named, side)
        shifts = np.ndindex(scale, scale)
        canvas = np.asarray(sum(canvas[:, :, i::scale, j::scale] for i, j in shifts))
        if channels == 1:
            canvas = (0.299 * canvas[0] + 0.587 * canvas[1] + 0.114 * canvas[2])[None]
        canvas = np.clip(canvas * (255.0 / scale**2) + 0.5, 0.0, 255.0)
        images[start : start + step] = canvas.astype(np.uint8).transpose(1, 2, 3, 0)
    return images


def generate(
    seed: int, indices: np.ndarray, resolution: int, channels: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (images, factors) of the given indices: see `render` and `sample_factors`."""
    factors = sample_factors(seed, indices)
    return render(factors, resolution, channels), factors


def in_blocks(
    seed: int, num: int, size: int, resolution: int, channels: int = 3
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`generate` of the first `num` indices, up to `size` of them at a time."""
    for first in range(0, num, size):
        yield generate(seed, np.arange(first, min(first + size, num)), resolution, channels)


def _check(factors: np.ndarray, resolution: int, channels: int) -> None:
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        raise ValueError(
            f"resolution must be in [{MIN_RESOLUTION}, {MAX_RESOLUTION}], got {resolution}"
        )
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    if factors.ndim != 2 or factors.shape[1] != len(FACTORS):
        raise ValueError(f"factors must have shape (N, {len(FACTORS)}), got {factors.shape}")
    for factor, values in zip(FACTORS, factors.T, strict=True):
        if not np.all((values >= factor.low) & (values <= factor.high)):
            raise ValueError(f"{factor.name} must be in [{factor.low}, {factor.high}]")
        if factor.kind == "categorical" and np.any(values != np.floor(values)):
            raise ValueError(f"{factor.name} must be a whole number, got {values}")


def _mix(words: np.ndarray) -> np.ndarray:
    """The splitmix64 step (Steele et al., 2014) on an array, where uint64 wraps silently."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
