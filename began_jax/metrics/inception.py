"""The network of the Fréchet Inception Distance and the Inception Score, as a pure function.

Inception v3 (https://arxiv.org/abs/1512.00567) as TensorFlow's archive inception-2015-12-05 has
it: 1008 logits, average pools that do not count the padding, a maximum in the last block's pool,
TensorFlow 1's resize. It follows the reading of torch-fidelity 0.4.0
(https://github.com/toshas/torch-fidelity, feature_extractor_inceptionv3.py), in whose names and
layout the weights come.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax import Array
from jax import numpy as jnp

Params = dict[str, Any]

SIDE = 299  # pixels, of the images that it was trained on
_EPSILON = 1e-3  # of batch norm
_FEATURES, _CLASSES = 2048, 1008

# Layers as {name: (out, in, height, width)}, PyTorch's order.
_Convs = dict[str, tuple[int, int, int, int]]


def _a(num_in: int, num_pool: int) -> _Convs:
    return {
        "branch1x1": (64, num_in, 1, 1),
        "branch5x5_1": (48, num_in, 1, 1),
        "branch5x5_2": (64, 48, 5, 5),
        "branch3x3dbl_1": (64, num_in, 1, 1),
        "branch3x3dbl_2": (96, 64, 3, 3),
        "branch3x3dbl_3": (96, 96, 3, 3),
        "branch_pool": (num_pool, num_in, 1, 1),
    }


def _b(num_in: int) -> _Convs:
    return {
        "branch3x3": (384, num_in, 3, 3),
        "branch3x3dbl_1": (64, num_in, 1, 1),
        "branch3x3dbl_2": (96, 64, 3, 3),
        "branch3x3dbl_3": (96, 96, 3, 3),
    }


def _c(num_in: int, num: int) -> _Convs:
    return {
        "branch1x1": (192, num_in, 1, 1),
        "branch7x7_1": (num, num_in, 1, 1),
        "branch7x7_2": (num, num, 1, 7),
        "branch7x7_3": (192, num, 7, 1),
        "branch7x7dbl_1": (num, num_in, 1, 1),
        "branch7x7dbl_2": (num, num, 7, 1),
        "branch7x7dbl_3": (num, num, 1, 7),
        "branch7x7dbl_4": (num, num, 7, 1),
        "branch7x7dbl_5": (192, num, 1, 7),
        "branch_pool": (192, num_in, 1, 1),
    }


def _d(num_in: int) -> _Convs:
    return {
        "branch3x3_1": (192, num_in, 1, 1),
        "branch3x3_2": (320, 192, 3, 3),
        "branch7x7x3_1": (192, num_in, 1, 1),
        "branch7x7x3_2": (192, 192, 1, 7),
        "branch7x7x3_3": (192, 192, 7, 1),
        "branch7x7x3_4": (192, 192, 3, 3),
    }


def _e(num_in: int) -> _Convs:
    return {
        "branch1x1": (320, num_in, 1, 1),
        "branch3x3_1": (384, num_in, 1, 1),
        "branch3x3_2a": (384, 384, 1, 3),
        "branch3x3_2b": (384, 384, 3, 1),
        "branch3x3dbl_1": (448, num_in, 1, 1),
        "branch3x3dbl_2": (384, 448, 3, 3),
        "branch3x3dbl_3a": (384, 384, 1, 3),
        "branch3x3dbl_3b": (384, 384, 3, 1),
        "branch_pool": (192, num_in, 1, 1),
    }


_STEM: _Convs = {
    "Conv2d_1a_3x3": (32, 3, 3, 3),
    "Conv2d_2a_3x3": (32, 32, 3, 3),
    "Conv2d_2b_3x3": (64, 32, 3, 3),
    "Conv2d_3b_1x1": (80, 64, 1, 1),
    "Conv2d_4a_3x3": (192, 80, 3, 3),
}
_MIXED = {
    "Mixed_5b": _a(192, 32),
    "Mixed_5c": _a(256, 64),
    "Mixed_5d": _a(288, 64),
    "Mixed_6a": _b(288),
    "Mixed_6b": _c(768, 128),
    "Mixed_6c": _c(768, 160),
    "Mixed_6d": _c(768, 160),
    "Mixed_6e": _c(768, 192),
    "Mixed_7a": _d(768),
    "Mixed_7b": _e(1280),
    "Mixed_7c": _e(2048),
}


def _shapes() -> dict[str, tuple[int, ...]]:
    convs = dict(_STEM)
    for block, branches in _MIXED.items():
        convs.update({f"{block}.{branch}": shape for branch, shape in branches.items()})
    shapes: dict[str, tuple[int, ...]] = {"fc.weight": (_CLASSES, _FEATURES)}
    for name, shape in convs.items():
        shapes[f"{name}.conv.weight"] = shape
        for statistic in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{statistic}"] = shape[:1]
    return shapes


SHAPES = _shapes()  # of the file's arrays, in PyTorch's names; fc.bias is not used


def params(arrays: Mapping[str, np.ndarray]) -> Params:
    """The parameters from the file's arrays, which have `SHAPES`: {layer: {kernel, bias}}.

    A block's layers are one level deeper, fc is a matrix (2048, 1008).
    """
    params: Params = {name: _fold(arrays, name) for name in _STEM}
    for block, branches in _MIXED.items():
        params[block] = {branch: _fold(arrays, f"{block}.{branch}") for branch in branches}
    params["fc"] = jnp.asarray(arrays["fc.weight"].T, jnp.float32)
    return params


def _fold(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, Array]:
    """A convolution and the batch norm behind it as one; in float64, as it is done once."""
    kernel, gamma, beta, mean, variance = (
        np.asarray(arrays[f"{name}.{key}"], np.float64)
        for key in ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    )
    scale = gamma / np.sqrt(variance + _EPSILON)
    return {
        "kernel": jnp.asarray(kernel.transpose(2, 3, 1, 0) * scale, jnp.float32),
        "bias": jnp.asarray(beta - mean * scale, jnp.float32),
    }


def apply(params: Params, images: Array) -> tuple[Array, Array]:
    """Features (B, 2048) and logits (B, 1008) of uint8 images (B, H, W, 1 or 3).

    The logits are without the bias, as the Inception Score has always been computed.
    """
    outputs = forward(params, (resize(images) - 128) / 128)
    return outputs["2048"], outputs["logits_unbiased"]


def resize(images: Array) -> Array:
    """Images (B, H, W, 1 or 3), 0..255, to float32 (B, 299, 299, 3), as TensorFlow 1 did.

    Bilinear between the two pixels about i · H / 299: half a pixel off from what is done since,
    and without a filter where it shrinks.
    """
    x = jnp.broadcast_to(images, (*images.shape[:-1], 3)).astype(jnp.float32)
    return _stretch(_stretch(x, axis=2), axis=1)


def _stretch(x: Array, axis: int) -> Array:
    size = x.shape[axis]
    position = np.arange(SIDE, dtype=np.float32) * np.float32(size / SIDE)
    low = position.astype(np.int32)
    high = np.minimum(low + 1, size - 1)
    weight = np.expand_dims(position - low, tuple(range(1, x.ndim - axis)))
    below, above = jnp.take(x, low, axis), jnp.take(x, high, axis)
    return below + (above - below) * weight


def forward(params: Params, x: Array) -> dict[str, Array]:
    """The outputs of float images (B, H, W, 3) in [−1, 1], H and W of 75 or more.

    Returns:
      {"64", "192", "768", "2048": the means of the maps (B, that many) behind the two maximum
      pools of the stem, the last 17×17 block and the last block; "logits_unbiased": (B, 1008)}.
    """
    outputs = {}
    x = _conv(params["Conv2d_1a_3x3"], x, stride=2, padding="VALID")
    x = _conv(params["Conv2d_2a_3x3"], x, padding="VALID")
    x = _conv(params["Conv2d_2b_3x3"], x)
    x = nn.max_pool(x, (3, 3), (2, 2))
    outputs["64"] = x.mean((1, 2))
    x = _conv(params["Conv2d_3b_1x1"], x)
    x = _conv(params["Conv2d_4a_3x3"], x, padding="VALID")
    x = nn.max_pool(x, (3, 3), (2, 2))
    outputs["192"] = x.mean((1, 2))
    for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = _mixed_a(params[name], x)
    x = _mixed_b(params["Mixed_6a"], x)
    for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        x = _mixed_c(params[name], x)
    outputs["768"] = x.mean((1, 2))
    x = _mixed_d(params["Mixed_7a"], x)
    x = _mixed_e(params["Mixed_7b"], x, average_pool(x))
    # Surely a mistake of 2015, and part of the definition now.
    x = _mixed_e(params["Mixed_7c"], x, nn.max_pool(x, (3, 3), (1, 1), "SAME"))
    outputs["2048"] = x.mean((1, 2))
    outputs["logits_unbiased"] = jnp.matmul(
        outputs["2048"], params["fc"], precision=jax.lax.Precision.HIGHEST
    )
    return outputs


def average_pool(x: Array) -> Array:
    """The mean of each pixel and those of its eight neighbours that exist; (B, H, W, C)."""
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _mixed_a(p: Params, x: Array) -> Array:
    branches = [
        _chain(p, x, "branch1x1"),
        _chain(p, x, "branch5x5_1", "branch5x5_2"),
        _chain(p, x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
        _chain(p, average_pool(x), "branch_pool"),
    ]
    return jnp.concatenate(branches, -1)


def _mixed_b(p: Params, x: Array) -> Array:
    double = _chain(p, x, "branch3x3dbl_1", "branch3x3dbl_2")
    branches = [
        _conv(p["branch3x3"], x, stride=2, padding="VALID"),
        _conv(p["branch3x3dbl_3"], double, stride=2, padding="VALID"),
        nn.max_pool(x, (3, 3), (2, 2)),
    ]
    return jnp.concatenate(branches, -1)


def _mixed_c(p: Params, x: Array) -> Array:
    branches = [
        _chain(p, x, "branch1x1"),
        _chain(p, x, "branch7x7_1", "branch7x7_2", "branch7x7_3"),
        _chain(p, x, *(f"branch7x7dbl_{i}" for i in range(1, 6))),
        _chain(p, average_pool(x), "branch_pool"),
    ]
    return jnp.concatenate(branches, -1)


def _mixed_d(p: Params, x: Array) -> Array:
    long = _chain(p, x, "branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3")
    branches = [
        _conv(p["branch3x3_2"], _chain(p, x, "branch3x3_1"), stride=2, padding="VALID"),
        _conv(p["branch7x7x3_4"], long, stride=2, padding="VALID"),
        nn.max_pool(x, (3, 3), (2, 2)),
    ]
    return jnp.concatenate(branches, -1)


def _mixed_e(p: Params, x: Array, pooled: Array) -> Array:
    single = _chain(p, x, "branch3x3_1")
    double = _chain(p, x, "branch3x3dbl_1", "branch3x3dbl_2")
    branches = [
        _chain(p, x, "branch1x1"),
        _chain(p, single, "branch3x3_2a"),
        _chain(p, single, "branch3x3_2b"),
        _chain(p, double, "branch3x3dbl_3a"),
        _chain(p, double, "branch3x3dbl_3b"),
        _chain(p, pooled, "branch_pool"),
    ]
    return jnp.concatenate(branches, -1)


def _chain(p: Params, x: Array, *names: str) -> Array:
    for name in names:
        x = _conv(p[name], x)
    return x


def _conv(p: dict[str, Array], x: Array, *, stride: int = 1, padding: str = "SAME") -> Array:
    y = jax.lax.conv_general_dilated(
        x,
        p["kernel"],
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,  # accelerators' default is less than float32
    )
    return jax.nn.relu(y + p["bias"])
