"""The networks of EBGAN's paper (Zhao, Mathieu, LeCun 2016, arXiv 1609.03126) for CelebA.

In its notation, (maps) kernel c stride s, with R the resolution and C the image's channels:

    encoder    (n)4c2s-(2n)4c2s-(4n)4c2s, to codes of R/8 × R/8 × 4n
    decoder    its mirror, transposed: (2n)4c2s-(n)4c2s-(C)4c2s
    generator  DCGAN's: fully connected to R/16 × R/16 × 16n; transposed:
               (8n)4c2s-(4n)4c2s-(2n)4c2s-(C)4c2s

n is 64 in the paper. LeakyReLU(0.2) follows every hidden layer of D, codes included, ReLU those of
G. A convolution pads with one pixel of zeros; a transposed one is the transpose of such a one.

Departures: instead of DCGAN's batch norm there is layer norm (GroupNorm of one group) on every
hidden layer but the first of D and of G (DCGAN's is on G's first too), with a bias and no factor,
which the next layer has: a sample depends on no other of its batch, and there is no state.
The output is linear, as in all networks here; theirs is a tanh.
"""

from collections.abc import Callable

import jax
from flax import linen as nn
from jax import Array

from began_jax.models import layers
from began_jax.schema import ModelConfig


class Encoder(nn.Module):
    """Images (B, R, R, C) to codes (B, (R/8)² · 4n), maps in one row."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Array, carry: None) -> Array:
        """`carry` is what the other presets' networks take."""
        c = self.config
        x = _leaky_relu(_Conv(c.n, name="conv1")(x.astype(c.dtype)))
        for i, width in ((2, 2 * c.n), (3, 4 * c.n)):
            x = _leaky_relu(_Conv(width, is_normalised=True, name=f"conv{i}")(x))
        return x.reshape(len(x), -1)


class Decoder(nn.Module):
    """Codes (B, (R/8)² · 4n) to images (B, R, R, C)."""

    config: ModelConfig

    @nn.compact
    def __call__(self, h: Array, carry: None) -> Array:
        """`carry` is what the other presets' networks take."""
        c = self.config
        size = c.resolution // 8
        x = h.astype(c.dtype).reshape(-1, size, size, 4 * c.n)
        return _to_image(c, x, (2 * c.n, c.n), _leaky_relu)


class Generator(nn.Module):
    """Latents (B, N_z) to images (B, R, R, C)."""

    config: ModelConfig

    @nn.compact
    def __call__(self, z: Array, carry: None) -> Array:
        """`carry` is what the other presets' networks take."""
        c = self.config
        size = c.resolution // 16
        x = nn.Dense(size * size * 16 * c.n, dtype=c.dtype, name="fc")(z)
        x = jax.nn.relu(x).reshape(-1, size, size, 16 * c.n)
        return _to_image(c, x, (8 * c.n, 4 * c.n, 2 * c.n), jax.nn.relu)


class _Conv(nn.Module):
    """4×4, stride 2, to half or, transposed, to twice the side; normalised; bias."""

    features: int
    is_transposed: bool = False
    is_normalised: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (4, 4, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.zeros, shape).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        if self.is_transposed:
            y = jax.lax.conv_transpose(x, kernel, (2, 2), "SAME")
        else:
            y = jax.lax.conv_general_dilated(
                x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        if self.is_normalised:
            y = nn.GroupNorm(num_groups=1, use_bias=False, use_scale=False, dtype=x.dtype)(y)
        return layers.add_up([y], bias, "plain")


def _to_image(
    c: ModelConfig, x: Array, widths: tuple[int, ...], activation: Callable[[Array], Array]
) -> Array:
    """The transposed convolutions, inside a compact method."""
    for i, width in enumerate(widths, 1):
        conv = _Conv(width, is_transposed=True, is_normalised=True, name=f"conv{i}")
        x = activation(conv(x))
    return _Conv(c.channels, is_transposed=True, name="conv_out")(x)


def _leaky_relu(x: Array) -> Array:
    return jax.nn.leaky_relu(x, 0.2)
