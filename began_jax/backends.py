"""What is fastest on which device: the form of the convolutions and XLA's options for it.

docs/performance.md tells what was measured. On accelerators nothing has been yet.
"""

import dataclasses
import math
import os
import platform
from importlib import metadata

import jax
from jax.sharding import Mesh

from began_jax import rules, runtime
from began_jax.config import ConfigError
from began_jax.schema import Config, ModelConfig

_LIBRARY = "xla_cpu_experimental_ynn_fusion_type"
_ONEDNN = "xla_cpu_experimental_onednn_custom_call"

# At n = 16 and 32×32 the form saves less time than its longer compilation takes.
_WINOGRAD_WIDTH = 32
# Ten of the shortest steps hide a dispatch; with ten of the longest a signal waits a few seconds.
_MOST_STEPS = 10


def resolve(config: Config, platform: str | None = None) -> Config:
    """Return the config with the convolution algorithm that "auto" means on the platform.

    Args:
      config: the config.
      platform: "cpu", "gpu" or "tpu"; None: that of this process.

    Raises:
      ConfigError: "winograd" on an accelerator, whose products are less than float32's.
    """
    on_cpu = (platform or jax.default_backend()) == "cpu"
    form = config.model.conv
    if form == "winograd" and not on_cpu:
        raise ConfigError(f"config.model.conv = {form!r}: its sums need the products of a CPU")
    if form == "auto":
        wide = config.model.n >= _WINOGRAD_WIDTH and config.model.dtype == "float32"
        on_cpu_form = "winograd" if wide and _has_fast_products() else "phases"
        form = on_cpu_form if on_cpu else "transposed"
    return _with_form(config, form)


def for_one_pass(config: Config) -> Config:
    """The config for every program but the train step, without whose options "winograd" is slow."""
    if config.model.conv == "plain":
        return config
    return _with_form(config, "phases" if jax.default_backend() == "cpu" else "transposed")


def compiler_options(config: ModelConfig) -> dict[str, bool | str]:
    """XLA's options for the train step of a resolved config; none where XLA_FLAGS names one.

    They are named for the versions they were tried on alone, as XLA refuses one that it does not
    know. In jax 0.10 XLA:CPU's own convolutions are up to twice slower than its library's; in 0.12
    the library is the default, and oneDNN, which is faster for matrix products, an option.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if jax.default_backend() != "cpu" or _ONEDNN in flags or _LIBRARY in flags:
        return {}
    if config.conv == "winograd" and _has_onednn():
        return {_ONEDNN: True, _LIBRARY: ""}
    return {_LIBRARY: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"} if _is_jaxlib("0.10.") else {}


def compile(lowered: jax.stages.Lowered, config: ModelConfig) -> jax.stages.Compiled:
    """Compiles a train step of a resolved config with its options.

    JAX cannot store a program that calls oneDNN (jaxlib 0.12: MemoryError, told as a warning at
    every start), so that one is not offered to the cache.
    """
    options = compiler_options(config)
    name = "jax_persistent_cache_min_compile_time_secs"
    usual = jax.config.values[name]
    if _ONEDNN in options or _ONEDNN in os.environ.get("XLA_FLAGS", ""):
        jax.config.update(name, float("inf"))
    try:
        return lowered.compile(compiler_options=options)
    finally:
        jax.config.update(name, usual)
        runtime.return_freed_memory()


def resolve_dispatch(config: Config, *, resident: bool, platform: str | None = None) -> Config:
    """Return the config with the steps per device call that 0 means on the platform.

    An accelerator that is given one short step after the other waits for the host; the number
    divides the steps between two records and between two checkpoints. Where the images are not
    `resident`, a dispatch would hold the batches of all its steps.
    """
    t = config.train
    num = t.steps_per_dispatch or 1
    on_cpu = (platform or jax.default_backend()) == "cpu"
    if not t.steps_per_dispatch and resident and not on_cpu:
        common = math.gcd(t.log_every_steps, t.checkpoint_every_steps)
        num = max(num for num in range(1, _MOST_STEPS + 1) if common % num == 0)
    return dataclasses.replace(config, train=dataclasses.replace(t, steps_per_dispatch=num))


def is_one_exchange_faster(config: Config, mesh: Mesh) -> bool:
    """Return whether the gradients should cross between the devices as one array.

    NCCL and a TPU sum many arrays in one operation. Gloo, between CPU processes, does not. An
    objective that draws noise or has a term of the whole batch needs the batch as a whole.
    """
    between_cpus = mesh.is_multi_process and mesh.devices.flat[0].platform == "cpu"
    return between_cpus and config.objective.name not in rules.OF_WHOLE_BATCHES


def _with_form(config: Config, form: str) -> Config:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, conv=form))


def _has_fast_products() -> bool:
    """Measured, on x86 alone: by oneDNN, or by the library that jaxlib 0.10 has as an option."""
    return _has_onednn() or (_is_x86() and _is_jaxlib("0.10."))


def _has_onednn() -> bool:
    return _is_x86() and _is_jaxlib("0.12.")


def _is_x86() -> bool:
    return platform.machine() in ("x86_64", "AMD64")


def _is_jaxlib(prefix: str) -> bool:
    return metadata.version("jaxlib").startswith(prefix)
