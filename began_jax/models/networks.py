"""The Linen modules: the encoder and the decoder of the paper's two readings.

Notation of docs/paper.md: S = log2(resolution / 8) scales, n the base channel width, 8×8 at the
boundary. Every convolution is 3×3 with one pixel of zero padding on each side; ELU follows all
but the last; nothing follows the fully connected layers. Sub-sampling takes the even rows and
columns, so a stride-2 convolution is the stride-1 one sub-sampled.

A convolution takes the maps it reads at the size they have: by the algebra of `layers` it needs
neither the up-sampled map nor the concatenation with it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from flax import linen as nn
from jax import Array
from jax import numpy as jnp

from began_jax.models import layers
from began_jax.schema import BOTTLENECK_SIZE, ModelConfig


class Upsampled(NamedTuple):
    """Stands for `layers.upsample(map, factor)`."""

    map: Array  # (B, H, W, C)
    factor: int = 1


class Encoder(nn.Module):
    """Images (B, R, R, C) to codes (B, num_outputs)."""

    config: ModelConfig
    num_outputs: int

    @nn.compact
    def __call__(self, x: Array, carry: Array | None) -> Array:
        """`carry` is the vanishing residual's weight in [0, 1], or None for none."""
        c = self.config
        hidden = _HiddenConvs(c, carry)
        x = hidden([Upsampled(x.astype(c.dtype))], c.n, "conv_in")
        for s in range(1, c.num_scales + 1):
            for i in range(1, c.repeats):
                x = hidden([Upsampled(x)], s * c.n, f"scale{s}_conv{i}")
            x = hidden([Upsampled(x)], (s + 1) * c.n, f"scale{s}_conv{c.repeats}", stride=2)
        if c.preset == "fig1":
            for i in range(1, c.repeats + 1):
                x = hidden([Upsampled(x)], (c.num_scales + 1) * c.n, f"bottom_conv{i}")
        return nn.Dense(self.num_outputs, dtype=c.dtype, name="fc")(x.reshape(x.shape[0], -1))


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
        return _Conv(c.channels, c.dtype, c.conv, name="conv_out")([Upsampled(x)])

    def _author(self, h0: Array, hidden: "_HiddenConvs") -> Array:
        """Per scale: [concat h0], repeats − 1 convolutions, up-sample, one convolution."""
        c = self.config
        x = h0
        for s in range(1, c.num_scales + 1):
            inputs = [Upsampled(x)]
            if c.skips and s > 1:
                inputs.append(Upsampled(h0, 2 ** (s - 1)))
            for i in range(1, c.repeats):
                inputs = [Upsampled(hidden(inputs, c.n, f"scale{s}_conv{i}"))]
            doubled = [Upsampled(part.map, 2 * part.factor) for part in inputs]
            x = hidden(doubled, c.n, f"scale{s}_conv{c.repeats}")
        return x

    def _fig1(self, h0: Array, hidden: "_HiddenConvs") -> Array:
        """`repeats` convolutions at 8×8; per scale: up-sample, [concat h0], `repeats` more."""
        c = self.config
        x = h0
        for i in range(1, c.repeats + 1):
            x = hidden([Upsampled(x)], c.n, f"top_conv{i}")
        for s in range(1, c.num_scales + 1):
            inputs = [Upsampled(x, 2)]
            if c.skips:
                inputs.append(Upsampled(h0, 2**s))
            for i in range(1, c.repeats + 1):
                x = hidden(inputs, c.n, f"scale{s}_conv{i}")
                inputs = [Upsampled(x)]
        return x


class _Conv(nn.Module):
    """Convolution and bias of the channel-wise concatenation of maps."""

    features: int
    dtype: str
    form: str
    stride: int = 1

    @nn.compact
    def __call__(self, inputs: Sequence[Upsampled]) -> Array:
        channels = [part.map.shape[-1] for part in inputs]
        shape = (3, 3, sum(channels), self.features)
        kernel = self.param("kernel", nn.initializers.zeros, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        shares = [
            layers.conv(part.map, rows, self.form, factor=part.factor, stride=self.stride)
            for part, rows in zip(
                inputs, jnp.split(kernel, np.cumsum(channels)[:-1], axis=2), strict=True
            )
        ]
        return layers.add_up(shares, bias, self.form)


class _HiddenConvs:
    """Convolution, ELU and, between equal shapes, the vanishing residual.

    v ← carry · v + (1 − carry) · ELU(conv(v)); a plain callable inside a compact method, so that
    the parameters sit flat in the encoder or decoder.
    """

    def __init__(self, config: ModelConfig, carry: Array | None):
        self.config = config
        self.carry = carry

    def __call__(
        self, inputs: Sequence[Upsampled], features: int, name: str, stride: int = 1
    ) -> Array:
        c = self.config
        y = layers.elu(_Conv(features, c.dtype, c.conv, stride, name=name)(inputs), c.conv)
        if self.carry is None or len(inputs) > 1:
            return y
        v = layers.upsample(*inputs[0])
        if v.shape != y.shape:
            return y
        carry = self.carry.astype(v.dtype)
        return carry * v + (1 - carry) * y
