"""EfficientNet-Lite0, trained on ImageNet, as a pure function.

M. Tan, Q. Le, "EfficientNet", ICML 2019, https://arxiv.org/abs/1905.11946, in its variant without
squeeze-and-excitation and with ReLU6:
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite

The .npz holds for each convolution a `/kernel` (height, width, in, out), depthwise ones
(k, k, 1, C), and a `/bias` (out,), batch norm (epsilon 1e-3) folded in: `stem`, then `block00` to
`block15`, each `/expand` (not in block00), `/depthwise` and `/project`, then `head`; further `fc`
with a kernel (1280, 1000) and a bias, and the integers `block_strides` (16,).
"""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp

Params = dict[str, Array]

_SIDE = 224  # pixels, of the images that it was trained on
_STEM, _HEAD, _CLASSES = 32, 1280, 1000
_PRECISION = jax.lax.Precision.HIGHEST  # an accelerator's default is coarser than float32
# Of each stage: the kernel's side, the first block's stride, the expansion, channels out, blocks.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class _Block(NamedTuple):
    name: str
    kernel: int
    stride: int
    num_in: int
    num_wide: int
    num_out: int


def _blocks() -> list[_Block]:
    blocks: list[_Block] = []
    num_in = _STEM
    for kernel, first_stride, expansion, num_out, count in _STAGES:
        for i in range(count):
            name, stride = f"block{len(blocks):02}", first_stride if i == 0 else 1
            blocks.append(_Block(name, kernel, stride, num_in, expansion * num_in, num_out))
            num_in = num_out
    return blocks


def _shapes() -> dict[str, tuple[int, ...]]:
    kernels: dict[str, tuple[int, ...]] = {"stem": (3, 3, 3, _STEM)}
    for b in _BLOCKS:
        if b.num_wide > b.num_in:
            kernels[f"{b.name}/expand"] = (1, 1, b.num_in, b.num_wide)
        kernels[f"{b.name}/depthwise"] = (b.kernel, b.kernel, 1, b.num_wide)
        kernels[f"{b.name}/project"] = (1, 1, b.num_wide, b.num_out)
    kernels["head"] = (1, 1, _BLOCKS[-1].num_out, _HEAD)
    kernels["fc"] = (_HEAD, _CLASSES)
    shapes = {f"{name}/kernel": shape for name, shape in kernels.items()}
    shapes.update({f"{name}/bias": shape[-1:] for name, shape in kernels.items()})
    return {**shapes, "block_strides": (len(_BLOCKS),)}


_BLOCKS = _blocks()
STRIDES = [b.stride for b in _BLOCKS]
SHAPES = _shapes()  # of the file's arrays


def params(arrays: Mapping[str, np.ndarray]) -> Params:
    """The parameters from the file's arrays, which have `SHAPES`.

    Raises:
      ValueError: the strides are another network's.
    """
    if arrays["block_strides"].tolist() != STRIDES:
        raise ValueError(f"block_strides are {arrays['block_strides'].tolist()}, not {STRIDES}")
    return {key: jnp.asarray(arrays[key], jnp.float32) for key in SHAPES if key != "block_strides"}


def apply(params: Params, images: Array) -> tuple[Array, Array]:
    """Features (B, 1280) and ImageNet's logits (B, 1000) of uint8 images (B, H, W, 1 or 3)."""
    x = jnp.broadcast_to(images, (*images.shape[:-1], 3)).astype(jnp.float32)
    x = jax.image.resize(x, (len(x), _SIDE, _SIDE, 3), "bilinear")
    return forward(params, (x - 127) / 128)


def forward(params: Params, x: Array) -> tuple[Array, Array]:
    """Features (B, 1280) and logits (B, 1000) of float images (B, H, W, 3) in about [−1, 1]."""
    x = jax.nn.relu6(_stem(params, x))
    for b in _BLOCKS:
        y = x
        if f"{b.name}/expand/kernel" in params:
            y = jax.nn.relu6(_pointwise(params, f"{b.name}/expand", y))
        y = jax.nn.relu6(_depthwise(params, f"{b.name}/depthwise", y, b.stride))
        y = _pointwise(params, f"{b.name}/project", y)
        x = x + y if b.stride == 1 and b.num_in == b.num_out else y
    features = jax.nn.relu6(_pointwise(params, "head", x)).mean((1, 2))
    return features, _dense(features, params["fc/kernel"], params["fc/bias"])


def _stem(params: Params, x: Array) -> Array:
    y = jax.lax.conv_general_dilated(
        x,
        params["stem/kernel"],
        (2, 2),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=_PRECISION,
    )
    return y + params["stem/bias"]


def _pointwise(params: Params, name: str, x: Array) -> Array:
    """A 1×1 convolution, which XLA:CPU computes at half the speed of this product."""
    return _dense(x, params[f"{name}/kernel"][0, 0], params[f"{name}/bias"])


def _depthwise(params: Params, name: str, x: Array, stride: int) -> Array:
    """A depthwise convolution as a sum of shifted maps: ten times faster on XLA:CPU."""
    kernel, bias = params[f"{name}/kernel"], params[f"{name}/bias"]
    side = len(kernel)
    height, width = (-(-size // stride) for size in x.shape[1:3])
    padding = [
        divmod(max((out - 1) * stride + side - size, 0), 2)  # SAME's, the odd one at the end
        for out, size in zip((height, width), x.shape[1:3], strict=True)
    ]
    x = jnp.pad(x, ((0, 0), *((half, half + odd) for half, odd in padding), (0, 0)))
    y = jnp.zeros(())
    for i, j in itertools.product(range(side), repeat=2):
        rows = slice(i, i + (height - 1) * stride + 1, stride)
        columns = slice(j, j + (width - 1) * stride + 1, stride)
        y = y + kernel[i, j, 0] * x[:, rows, columns]
    return y + bias


def _dense(x: Array, kernel: Array, bias: Array) -> Array:
    return jnp.matmul(x, kernel, precision=_PRECISION) + bias
