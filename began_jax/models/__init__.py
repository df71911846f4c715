"""The generator G and the auto-encoding discriminator D as pure functions of their parameters.

Parameters are nested dicts of float32 arrays: G's are {layer: {kernel, bias}}, D's are
{"encoder": ..., "decoder": ...}, without a decoder where D is a plain critic. Linen stays inside
this package. BEGAN's networks are in `networks`, those of preset "ebgan" in `ebgan_networks`; their
N_h is `ModelConfig.code_size`.
"""

import dataclasses
from typing import Any

import jax
from flax import linen as nn
from jax import Array
from jax import numpy as jnp

from began_jax.models import ebgan_networks, networks
from began_jax.schema import ModelConfig

Params = Any

_PAPER_SIGMA = 0.01
# The standard deviation of a unit normal cut at ±2.
_TRUNCATED_STD = 0.87962566103423978


def carry_at(config: ModelConfig, step: Array) -> Array | None:
    """The vanishing residual's weight at a step: max(0, 1 − step / carry_steps); None if off."""
    if config.carry_steps == 0:
        return None
    return jnp.maximum(0.0, 1.0 - step.astype(jnp.float32) / config.carry_steps)


def without_finished_residual(config: ModelConfig, step: int) -> ModelConfig:
    """Return the config without its vanishing residual if that is 0 from this step on."""
    if step < config.carry_steps:
        return config
    return dataclasses.replace(config, carry_steps=0)


def sample_latents(config: ModelConfig, key: Array, num: int) -> Array:
    """Latents z (num, N_z), independent and uniform in [−1, 1)."""
    return jax.random.uniform(key, (num, config.n_z), jnp.float32, -1.0, 1.0)


def generate(config: ModelConfig, params: Params, z: Array, carry: Array | None) -> Array:
    """G(z): latents (B, N_z) in [−1, 1] to float32 images (B, R, R, C) around [−0.5, 0.5]."""
    return _apply(_generator(config), params, z, carry).astype(jnp.float32)


def encode(config: ModelConfig, params: Params, x: Array, carry: Array | None) -> Array:
    """Enc(x): images (B, R, R, C) to codes in the compute dtype; `params` are D's.

    (B, N_h), of a variational D (B, 2 N_h) with the means first, of a critic (B, 1).
    """
    fc = params["encoder"].get("fc")  # the last layer, which of preset "ebgan" is none
    num_outputs = fc["bias"].size if fc else config.code_size
    return _apply(_encoder(config, num_outputs), params["encoder"], x, carry)


def decode(config: ModelConfig, params: Params, h: Array, carry: Array | None) -> Array:
    """Dec(h): codes (B, N_h) to float32 images (B, R, R, C); `params` are D's."""
    return _apply(_decoder(config), params["decoder"], h, carry).astype(jnp.float32)


def reconstruct(config: ModelConfig, params: Params, x: Array, carry: Array | None) -> Array:
    """D(x) = Dec(Enc(x)): images (B, R, R, C) to float32 images of the same shape.

    By the mean of a variational D's codes.
    """
    return decode(config, params, encode(config, params, x, carry)[:, : config.code_size], carry)


def init_generator(config: ModelConfig, key: Array) -> Params:
    """G's initial parameters; see `_init` for the distributions."""
    return _init(config, key, _generator(config), (1, config.n_z))


def init_discriminator(
    config: ModelConfig, key: Array, *, num_outputs: int | None = None, with_decoder: bool = True
) -> Params:
    """D's initial parameters; see `_init` for the distributions.

    `num_outputs`: of the encoder; N_h, where it is None.
    """
    key_encoder, key_decoder = jax.random.split(key)
    image_shape = (1, config.resolution, config.resolution, config.channels)
    encoder = _encoder(config, num_outputs or config.code_size)
    params = {"encoder": _init(config, key_encoder, encoder, image_shape)}
    if with_decoder:
        params["decoder"] = _init(config, key_decoder, _decoder(config), (1, config.code_size))
    return params


def num_parameters(params: Params) -> int:
    """The number of scalars in a tree of arrays or of their shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _generator(config: ModelConfig) -> nn.Module:
    if config.preset == "ebgan":
        return ebgan_networks.Generator(config)
    return networks.Decoder(config)


def _encoder(config: ModelConfig, num_outputs: int) -> nn.Module:
    if config.preset == "ebgan":
        return ebgan_networks.Encoder(config)
    return networks.Encoder(config, num_outputs)


def _decoder(config: ModelConfig) -> nn.Module:
    if config.preset == "ebgan":
        return ebgan_networks.Decoder(config)
    return networks.Decoder(config)


def _apply(module: nn.Module, params: Params, inputs: Array, carry: Array | None) -> Array:
    output = module.apply({"params": params}, inputs, carry)
    assert isinstance(output, Array)  # and no pair with mutated variables, as there are none
    return output


def _init(
    config: ModelConfig, key: Array, module: nn.Module, input_shape: tuple[int, ...]
) -> Params:
    """Zero biases; kernels truncated normal, cut at two sigma.

    init "paper": sigma 0.01 before the cut, as the first author's layer library; "he": a standard
    deviation after the cut of √(2 / fan_in), with all taps of a transposed convolution in fan_in,
    though an output reads a quarter of them. One draw serves all kernels: with an initialiser a
    layer XLA compiles for half a minute.
    """
    shapes = jax.eval_shape(
        lambda: module.init(jax.random.key(0), jnp.zeros(input_shape), None)["params"]
    )
    draw = jax.random.truncated_normal(key, -2.0, 2.0, (num_parameters(shapes),))
    leaves, treedef = jax.tree.flatten(shapes)
    start, params = 0, []
    for leaf in leaves:
        unit = draw[start : start + leaf.size].reshape(leaf.shape)
        params.append(unit * _sigma(config, leaf.shape))
        start += leaf.size
    return jax.tree.unflatten(treedef, params)


def _sigma(config: ModelConfig, shape: tuple[int, ...]) -> float:
    if len(shape) == 1:  # a bias
        return 0.0
    if config.init == "paper":
        return _PAPER_SIGMA
    fan_in = 1
    for size in shape[:-1]:
        fan_in *= size
    return (2.0 / fan_in) ** 0.5 / _TRUNCATED_STD
