"""Accelerators that a step can be compiled for without having them.

JAX is imported by the functions that need it, after `configure` has set what it reads.
"""

import math
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from began_jax.errors import UserError

if TYPE_CHECKING:
    from jax.sharding import Mesh

_TB, _TFLOP = 1e12, 1e12


class Chip(NamedTuple):
    """Nominal figures of one device, from its maker's data sheet. FLOPs are dense."""

    name: str
    memory: int  # bytes
    bandwidth: float  # bytes a second
    flops: dict[str, float]  # a second, by compute dtype; float32 as TF32 on a GPU
    cores: int = 0  # streaming multiprocessors of a GPU


# On a TPU a float32 convolution takes its products in bfloat16 (JAX's default precision).
CHIPS = {
    "h100": Chip(
        "NVIDIA H100 80GB HBM3",
        84_942_979_072,
        3.35 * _TB,
        {"bfloat16": 989 * _TFLOP, "float32": 494 * _TFLOP},
        cores=132,
    ),
    "h200": Chip(
        "NVIDIA H200 141GB HBM3e",
        151_397_597_184,
        4.8 * _TB,
        {"bfloat16": 989 * _TFLOP, "float32": 494 * _TFLOP},
        cores=132,
    ),
    "v4": Chip(
        "TPU v4", 32 * 2**30, 1.23 * _TB, {"bfloat16": 275 * _TFLOP, "float32": 275 * _TFLOP}
    ),
    "v5e": Chip(
        "TPU v5e", 16 * 2**30, 0.82 * _TB, {"bfloat16": 197 * _TFLOP, "float32": 197 * _TFLOP}
    ),
    "v5p": Chip(
        "TPU v5p", 95 * 2**30, 2.77 * _TB, {"bfloat16": 459 * _TFLOP, "float32": 459 * _TFLOP}
    ),
    "v6e": Chip(
        "TPU v6e", 32 * 2**30, 1.64 * _TB, {"bfloat16": 918 * _TFLOP, "float32": 918 * _TFLOP}
    ),
}
# XLA's description of a Hopper GPU with these cores, bytes and bytes a second.
_HOPPER = """gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: {chip.cores}
  fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {chip.bandwidth:.0f} l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: {chip.memory} shared_memory_per_block_optin: 232448
  cuda_compute_capability {{ major: 9 feature_extension: ACCELERATED_FEATURES }}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536 thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024 thread_dim_limit_z: 64 device_vendor: "NVIDIA Corporation"
  device_address_bits: 64 pcie_bandwidth: 34359738368 ecc_enabled: true name: "{chip.name}"
  driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.28.1"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 28 patch: 1 }}
device_description_str: "{chip.name}"
"""


class Target(NamedTuple):
    """Some chips of one kind in one host or slice."""

    name: str
    chip: Chip
    num_devices: int

    @property
    def platform(self) -> str:
        """The platform as JAX names it: "gpu" or "tpu"."""
        return "gpu" if self.chip.cores else "tpu"


def parse(name: str) -> Target:
    """Return the target of a name such as h100, h200x8 or v5e-8.

    TPU names are Google Cloud's: for v4 and v5p the number counts cores, of which a chip has two
    that JAX shows as one device.

    Raises:
      UserError: the chip or the number of devices is unknown.
    """
    gpu = re.fullmatch(r"(h100|h200)(?:x([1248]))?", name)
    if gpu:
        return Target(name, CHIPS[gpu[1]], int(gpu[2] or 1))
    by_chip = re.fullmatch(r"(v5e|v6e)-(1|4|8|16)", name)
    if by_chip:
        return Target(name, CHIPS[by_chip[1]], int(by_chip[2]))
    by_core = re.fullmatch(r"(v4|v5p)-(8|16|32)", name)
    if by_core:
        return Target(name, CHIPS[by_core[1]], int(by_core[2]) // 2)
    raise UserError(
        f"--target={name}: must be h100 or h200, with x2, x4 or x8 for several, v5e or v6e with "
        "-1, -4, -8 or -16, or v4 or v5p with -8, -16 or -32."
    )


def mesh(target: Target) -> "Mesh":
    """Return a mesh of the described devices. Programs compile for it and cannot run.

    Raises:
      UserError: the compiler for the target is not installed.
    """
    from jax.sharding import AxisType, Mesh

    from began_jax import data_axis

    topology = _describe(target)
    devices = np.array(topology.devices[: target.num_devices])
    return Mesh(devices, (data_axis.NAME,), axis_types=(AxisType.Auto,))


def configure(target: Target) -> None:
    """Set what the compilers read from the environment. Call it before JAX is imported."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    if target.platform == "gpu":
        os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_autotune_level=0".strip()
        return
    # Without these libtpu asks a metadata server that only TPU hosts have.
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-8")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")


def _describe(target: Target) -> Any:
    from jax.experimental import topologies

    try:
        if target.platform == "gpu":
            return topologies.get_topology_desc(
                platform="cuda",
                target_config=_HOPPER.format(chip=target.chip),
                topology=f"1x1x{target.num_devices}",
            )
        return topologies.get_topology_desc(platform="tpu", topology_name=_tpu_topology(target))
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"--target={target.name}: the compiler for it cannot be loaded ({error}). "
            "Install requirements-targets.txt on Python 3.12 or newer."
        ) from error


def _tpu_topology(target: Target) -> str:
    """Return the smallest topology that XLA describes with so many chips: v5e:2x4."""
    kind, num = target.name.split("-")[0], target.num_devices
    if kind in ("v4", "v5p"):  # three dimensions; a host has 2×2×1
        return f"{kind}:2x2x{max(1, math.ceil(num / 4))}"
    return f"{kind}:" + {1: "2x2", 4: "2x2", 8: "2x4", 16: "4x4"}[num]
