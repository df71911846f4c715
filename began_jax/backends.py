"""What is fastest on which device: the form of the convolutions and XLA's options for it.

The figures behind the choices stand in docs/performance.md.
"""

import math
import os
import platform
from importlib import metadata

import jax

from began_jax.config import ModelConfig, TrainConfig

_LIBRARY = "xla_cpu_experimental_ynn_fusion_type"
_ONEDNN = "xla_cpu_experimental_onednn_custom_call"

# Narrower matrix products than these do not pay for the passes over memory around them.
_WINOGRAD_WIDTH = 32
# So many steps of a millisecond hide a dispatch; a signal still is answered within a second.
_MOST_STEPS = 50


def conv_form(config: ModelConfig) -> str:
    """`config.model.conv`, or what its "auto" means on the devices at hand."""
    if config.conv != "auto":
        return config.conv
    wide = config.n >= _WINOGRAD_WIDTH and config.dtype == "float32"
    return "winograd" if wide and _has_onednn() else "phases"


def compiler_options(config: ModelConfig) -> dict[str, bool | str]:
    """XLA's options for the train step, but for those that the user has set in XLA_FLAGS.

    They are named for the versions they were tried on alone, as XLA refuses one that it does not
    know. In jax 0.10 XLA:CPU's own convolutions are up to twice slower than its library's; in 0.12
    the library is the default, and oneDNN, which is faster for matrix products, an option.
    """
    options: dict[str, bool | str] = {}
    if jax.default_backend() == "cpu":
        if conv_form(config) == "winograd" and _has_onednn():
            options = {_ONEDNN: True, _LIBRARY: ""}
        elif _is_jaxlib("0.10."):
            options = {_LIBRARY: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
    flags = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in options.items() if f"--{name}=" not in flags}


def steps_per_dispatch(config: TrainConfig) -> int:
    """`config.steps_per_dispatch`, or what its 0 means on the devices at hand.

    An accelerator that is given one short step after the other waits for the host; the number
    divides the steps between two records and between two checkpoints.
    """
    if config.steps_per_dispatch:
        return config.steps_per_dispatch
    if jax.default_backend() == "cpu":
        return 1
    common = math.gcd(config.log_every_steps, config.checkpoint_every_steps)
    return max(num for num in range(1, _MOST_STEPS + 1) if common % num == 0)


def _has_onednn() -> bool:
    is_x86 = platform.machine() in ("x86_64", "AMD64")
    return jax.default_backend() == "cpu" and is_x86 and _is_jaxlib("0.12.")


def _is_jaxlib(prefix: str) -> bool:
    return metadata.version("jaxlib").startswith(prefix)
