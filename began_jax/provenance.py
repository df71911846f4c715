"""Where a run's numbers come from: code, packages, devices, command, time."""

import functools
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import jax

from began_jax import backends, files
from began_jax.schema import Config

_PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow"),
    *("clu", "ml-collections", "tensorboardX", "tensorflow-datasets"),
)


def write(workdir: Path, config: Config, start_step: int, num_rollbacks: int) -> None:
    """Appends this start of the run to provenance.json: code, packages, devices, command, time."""
    path = workdir / "provenance.json"
    starts = files.read_json(path) or []
    starts.append(
        {
            "start_step": start_step,
            "rollbacks": num_rollbacks,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "command": sys.argv,
            "commit": commit(),
            "uncommitted_changes": uncommitted_changes(),
            "processor": processor(),
            "cores": os.cpu_count(),
            "python": sys.version.split()[0],
            "packages": {name: _version(name) for name in _PACKAGES},
            "xla_flags": os.environ.get("XLA_FLAGS"),
            "compiler_options": backends.compiler_options(config.model),
            "conv": config.model.conv,
            "steps_per_dispatch": config.train.steps_per_dispatch,
            "processes": jax.process_count(),
            "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
        }
    )
    files.write_text(path, json.dumps(starts, indent=2) + "\n")


def processor() -> str:
    """The host's, as Linux names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


@functools.cache  # at a program's start: somebody may commit while it computes
def commit() -> str | None:
    """The program's own commit, or None where there is no git."""
    return _git("rev-parse", "HEAD")


@functools.cache
def uncommitted_changes() -> bool | None:
    """Whether the program's files differ from its commit, or None where there is no git."""
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return None if changes is None else bool(changes)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # one that only some sources need
        return None


def _git(*arguments: str) -> str | None:
    """Output of git in the program's own checkout, or None where there is none."""
    root = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
