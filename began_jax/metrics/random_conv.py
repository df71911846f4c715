"""A convolutional network with random weights that are the same for ever: no file, no training.

What it measures are statistics of textures at four scales, in the images' own resolution: enough
to see that images differ from others, not what they show. Distances in it are this project's own.
"""

import hashlib

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp

Params = list[Array]

_SEED = 0
_WIDTH, _LAYERS = 32, 4


def params() -> Params:
    """The kernels (3, 3, C, 32) of four layers: uniform, with He's variance of 2 / fan-in.

    NumPy promises the raw numbers of a bit generator, and no distribution, to future versions;
    and what follows is exact but for one rounding, unlike a normal's logarithms.
    """
    generator = np.random.PCG64(_SEED)
    kernels = []
    num_in = 3
    for _ in range(_LAYERS):
        shape = (3, 3, num_in, _WIDTH)
        raw = np.asarray(generator.random_raw(int(np.prod(shape))), np.uint64)
        unit = (raw >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)
        bound = np.sqrt(np.float32(6 / (9 * num_in)))
        kernels.append(jnp.asarray((bound * unit).reshape(shape)))
        num_in = _WIDTH
    return kernels


def sha256(params: Params) -> str:
    """The SHA-256 of all weights as little-endian float32, in hexadecimal."""
    digest = hashlib.sha256()
    for kernel in params:
        digest.update(np.asarray(kernel, "<f4").tobytes())
    return digest.hexdigest()


def apply(params: Params, images: Array) -> tuple[Array, None]:
    """Features (B, 256) of uint8 images (B, H, W, 1 or 3): each map's mean and deviation."""
    x = jnp.broadcast_to(images, (*images.shape[:-1], 3)).astype(jnp.float32) / 127.5 - 1
    features = []
    for kernel in params:
        x = jax.lax.conv_general_dilated(
            x,
            kernel,
            (2, 2),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=jax.lax.Precision.HIGHEST,  # accelerators' default is less than float32
        )
        x = jax.nn.relu(x)
        features += [x.mean((1, 2)), x.std((1, 2))]
    return jnp.concatenate(features, -1), None
