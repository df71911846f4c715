"""The Linen modules: the encoder and the decoder of the paper's two readings.

Notation of docs/paper.md: S = log2(resolution / 8) scales, n the base channel width, 8×8 at the
boundary. Every convolution is 3×3 with one pixel of zero padding on each side; ELU follows all
but the last; nothing follows the fully connected layers. Sub-sampling takes the even rows and
columns, so a stride-2 convolution is the stride-1 one sub-sampled.
"""

from flax import linen as nn
from jax import Array
from jax import numpy as jnp

from began_jax.config import BOTTLENECK_SIZE, ModelConfig


class Encoder(nn.Module):
    """Images (B, R, R, C) to codes (B, N_h)."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Array, carry: Array | None) -> Array:
        """`carry` is the vanishing residual's weight in [0, 1], or None for none."""
        c = self.config
        hidden = _HiddenConvs(c, carry)
        x = hidden(x.astype(c.dtype), c.n, "conv_in")
        for s in range(1, c.num_scales + 1):
            for i in range(1, c.repeats):
                x = hidden(x, s * c.n, f"scale{s}_conv{i}")
            x = hidden(x, (s + 1) * c.n, f"scale{s}_conv{c.repeats}", stride=2)
        if c.preset == "fig1":
            for i in range(1, c.repeats + 1):
                x = hidden(x, (c.num_scales + 1) * c.n, f"bottom_conv{i}")
        return nn.Dense(c.n_h, dtype=c.dtype, name="fc")(x.reshape(x.shape[0], -1))


class Decoder(nn.Module):
    """Codes (B, N_h or N_z) to images (B, R, R, C); the generator is one with its own weights."""

    config: ModelConfig

    @nn.compact
    def __call__(self, h: Array, carry: Array | None) -> Array:
        """`carry` is the vanishing residual's weight in [0, 1], or None for none."""
        c = self.config
        hidden = _HiddenConvs(c, carry)
        size = BOTTLENECK_SIZE
        h0 = nn.Dense(size * size * c.n, dtype=c.dtype, name="fc")(h.astype(c.dtype))
        h0 = h0.reshape(-1, size, size, c.n)
        x = self._author(h0, hidden) if c.preset == "author" else self._fig1(h0, hidden)
        return _conv(c, x, c.channels, "conv_out")

    def _author(self, h0: Array, hidden: "_HiddenConvs") -> Array:
        """Per scale: [concat h0], repeats − 1 convolutions, up-sample, one convolution."""
        c = self.config
        x = h0
        for s in range(1, c.num_scales + 1):
            if c.skips and s > 1:
                x = _concat_h0(x, h0)
            for i in range(1, c.repeats):
                x = hidden(x, c.n, f"scale{s}_conv{i}")
            x = hidden(upsample(x, 2), c.n, f"scale{s}_conv{c.repeats}")
        return x

    def _fig1(self, h0: Array, hidden: "_HiddenConvs") -> Array:
        """`repeats` convolutions at 8×8; per scale: up-sample, [concat h0], `repeats` more."""
        c = self.config
        x = h0
        for i in range(1, c.repeats + 1):
            x = hidden(x, c.n, f"top_conv{i}")
        for s in range(1, c.num_scales + 1):
            x = upsample(x, 2)
            if c.skips:
                x = _concat_h0(x, h0)
            for i in range(1, c.repeats + 1):
                x = hidden(x, c.n, f"scale{s}_conv{i}")
        return x


class _HiddenConvs:
    """Convolution, ELU and, between equal shapes, the vanishing residual.

    v ← carry · v + (1 − carry) · ELU(conv(v)); a plain callable inside a compact method, so that
    the parameters sit flat in the encoder or decoder.
    """

    def __init__(self, config: ModelConfig, carry: Array | None):
        self.config = config
        self.carry = carry

    def __call__(self, x: Array, features: int, name: str, stride: int = 1) -> Array:
        y = nn.elu(_conv(self.config, x, features, name, stride))
        if self.carry is None or x.shape != y.shape:
            return y
        carry = self.carry.astype(x.dtype)
        return carry * x + (1 - carry) * y


def _conv(config: ModelConfig, x: Array, features: int, name: str, stride: int = 1) -> Array:
    return nn.Conv(
        features,
        kernel_size=(3, 3),
        strides=stride,
        padding=1,
        dtype=config.dtype,
        name=name,
    )(x)


def upsample(x: Array, factor: int) -> Array:
    """Nearest-neighbour up-sampling of (B, H, W, C) to (B, factor·H, factor·W, C)."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, factor, w, factor, c))
    return x.reshape(b, factor * h, factor * w, c)


def _concat_h0(x: Array, h0: Array) -> Array:
    return jnp.concatenate([x, upsample(h0, x.shape[1] // h0.shape[1])], axis=-1)
