"""How much of the synthetic faces' true variety a set of images has, factor by factor.

Those faces are drawn from known factors (`data/synthetic_faces.py`). A small network learns from
such faces to read a face's factors, and then reads those of any images. How well it does is
measured on faces that it has not seen: `Regressor.held_out`.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import linen as nn
from jax import Array
from jax import numpy as jnp

from began_jax import blocks, files, pixels, progress
from began_jax.data import synthetic_faces
from began_jax.data.synthetic_faces import FACTORS, Factor

_SIDE = 32  # pixels; larger images are reduced to it
_VERSION = 2  # raise it with every change of the network or of its training
# Seeds of faces that no run's data has.
_TRAINING, _HELD_OUT = 2**33, 2**34
_NUM_TRAINING, _NUM_HELD_OUT = 40_000, 4_000
_BATCH, _STEPS, _LEARNING_RATE = 100, 4_000, 2e-3
_DRAWN_AT_ONCE = 500  # faces; at 256×256 0.1 GB
_BINS = 10

Params = Any


class Regressor(NamedTuple):
    """A trained network for faces of one size, and how well it reads them."""

    params: Params
    sha256: str  # of its parameters
    held_out: dict[str, float]
    """By factor, on unseen faces: 1 − mean squared error / variance of `_encoded`. 1 is perfect, a
    constant guess has 0."""


class _Network(nn.Module):
    """Images (B, H, W, C) around [−0.5, 0.5] to an estimate of `_encoded` of their factors."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for features in (32, 64, 128):
            x = nn.relu(nn.Conv(features, (3, 3), strides=2)(x))
        x = nn.relu(nn.Dense(256)(x.reshape(len(x), -1)))
        return nn.Dense(sum(map(_width, FACTORS)))(x)


def coverage(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """By factor, the share of b's variety that a has too, in [0, 1]: Σ over bins of min(p_a, p_b).

    A bin is a value of a categorical factor, else a tenth of b's values. Of one image over and over
    it is the share of that image's bin; of sets that are alike a little less than 1, as what
    falls into a bin is chance.

    Args:
      a: factors (N, 17) of the images in question, by `read`.
      b: factors (M, 17) of faces, by the same regressor: what it confuses it confuses in both.
    """
    found = {}
    for factor, of_a, of_b in zip(FACTORS, a.T, b.T, strict=True):
        if factor.kind == "categorical":
            edges = np.arange(factor.num_values - 1) + 0.5
        else:
            edges = np.quantile(of_b, np.linspace(0, 1, _BINS + 1)[1:-1])
        shares = [
            np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1) / len(values)
            for values in (of_a, of_b)
        ]
        found[factor.name] = float(np.minimum(*shares).sum())
    return found


def read(regressor: Regressor, images: np.ndarray) -> np.ndarray:
    """The factors (N, 17) of images, uint8 (N, R, R, C), in the factors' units."""
    return _decoded(_outputs(regressor.params, images))


def regressor(resolution: int, channels: int) -> Regressor:
    """The regressor for faces of this size: trained once, for a minute or two, then cached.

    Raises:
      UserError: the cache's file cannot be read.
    """
    key = {
        "version": _VERSION,
        "faces": synthetic_faces.VERSION,
        "resolution": resolution,
        "channels": channels,
    }
    side = min(resolution, _SIDE)
    initial = _Network().init(jax.random.key(0), jnp.zeros((1, side, side, channels)))
    num_leaves, tree = len(jax.tree.leaves(initial)), jax.tree.structure(initial)

    def make() -> dict[str, Any]:
        params = _train(initial, resolution, channels)
        leaves = {f"parameter{i}": leaf for i, leaf in enumerate(jax.tree.leaves(params))}
        return {**leaves, "held_out": _held_out(params, resolution, channels)}

    def read(saved: Mapping[str, np.ndarray]) -> Regressor:
        leaves = [saved[f"parameter{i}"] for i in range(num_leaves)]
        sha256 = hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()
        names = [factor.name for factor in FACTORS]
        held_out = dict(zip(names, saved["held_out"].tolist(), strict=True))
        return Regressor(jax.tree.unflatten(tree, leaves), sha256, held_out)

    found, _ = files.cached_npz("regressor", key, make, read)
    return found


def _train(params: Params, resolution: int, channels: int) -> Params:
    x, y = _faces(_TRAINING, _NUM_TRAINING, resolution, channels)
    adam = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, _STEPS))

    @jax.jit
    def step(params: Params, state: optax.OptState, x: Array, y: Array) -> tuple[Params, Any]:
        grads = jax.grad(lambda p: jnp.square(_apply(p, x) - y).mean())(params)
        updates, state = adam.update(grads, state)
        return optax.apply_updates(params, updates), state

    generator = np.random.default_rng(0)
    state = adam.init(params)
    with progress.bar(_STEPS, "regressor of factors", "steps") as advance:
        for _ in range(_STEPS):
            rows = generator.integers(0, len(x), _BATCH)
            params, state = step(params, state, x[rows], y[rows])
            advance(1)
    return params


def _held_out(params: Params, resolution: int, channels: int) -> np.ndarray:
    """`Regressor.held_out` in the order of the factors."""
    x, truth = _faces(_HELD_OUT, _NUM_HELD_OUT, resolution, channels)
    error = np.square(blocks.map_rows(_apply, x, params) - truth).mean(axis=0)
    variance = truth.var(axis=0)
    return np.array([1 - error[part].sum() / variance[part].sum() for part in _parts()])


def _faces(seed: int, num: int, resolution: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Faces as the network sees them, `_reduced`, and what it is to say, `_encoded`."""
    x, y = [], []
    with progress.bar(num, "drawing for the regressor", "faces") as advance:
        faces = synthetic_faces.in_blocks(seed, num, _DRAWN_AT_ONCE, resolution, channels)
        for images, factors in faces:
            x.append(blocks.map_rows(_reduced, images))
            y.append(_encoded(factors))
            advance(len(images))
    return np.concatenate(x), np.concatenate(y)


def _outputs(params: Params, images: np.ndarray) -> np.ndarray:
    return blocks.map_rows(lambda params, block: _apply(params, _reduced(block)), images, params)


@jax.jit
def _reduced(images: Array) -> Array:
    """Means over the pixels of uint8 images, at most 32×32 of them, around [−0.5, 0.5]."""
    b, side, _, channels = images.shape
    factor = max(side // _SIDE, 1)
    x = pixels.to_float(images).reshape(b, side // factor, factor, side // factor, factor, channels)
    return x.mean((2, 4))


@jax.jit
def _apply(params: Params, x: Array) -> Array:
    outputs: Any = _Network().apply(params, x)
    return outputs


def _width(factor: Factor) -> int:
    return {"continuous": 1, "circular": 2}.get(factor.kind, factor.num_values)


def _parts() -> list[slice]:
    """Each factor's columns of `_encoded`."""
    ends = np.cumsum([_width(factor) for factor in FACTORS])
    return [slice(end - _width(factor), end) for factor, end in zip(FACTORS, ends, strict=True)]


def _encoded(factors: np.ndarray) -> np.ndarray:
    """Factors (N, 17) as the network learns them, float32 (N, 28): in [−1, 1], a hue as a point on
    the circle, a categorical one as one-hot."""
    columns = []
    for factor, values in zip(FACTORS, factors.T, strict=True):
        if factor.kind == "categorical":
            columns.append(np.eye(factor.num_values)[values.astype(int)])
        elif factor.kind == "circular":
            angle = 2 * np.pi * values
            columns.append(np.stack([np.cos(angle), np.sin(angle)], axis=1))
        else:
            columns.append((2 * (values - factor.low) / (factor.high - factor.low) - 1)[:, None])
    return np.concatenate(columns, axis=1).astype(np.float32)


def _decoded(outputs: np.ndarray) -> np.ndarray:
    """The factors (N, 17) that are nearest to the network's outputs; the inverse of `_encoded`."""
    columns = []
    for factor, part in zip(FACTORS, _parts(), strict=True):
        y = outputs[:, part].astype(np.float64)
        if factor.kind == "categorical":
            columns.append(y.argmax(axis=1))
        elif factor.kind == "circular":
            columns.append(np.arctan2(y[:, 1], y[:, 0]) / (2 * np.pi) % 1.0)
        else:
            columns.append((y[:, 0] + 1) / 2 * (factor.high - factor.low) + factor.low)
    return np.stack(columns, axis=1)
