"""The test process: four simulated devices, one compilation cache, a small config."""

import os
import signal
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

os.environ["JAX_NUM_CPU_DEVICES"] = "4"  # before jax starts
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "xla-tests")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# A fifth less to compile. `make test-slow` leaves the programs as users have them.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")

import hypothesis
import pytest

from began_jax import config as config_lib
from began_jax.schema import Config, DataConfig
from configs import base

# A shell's background jobs ignore it, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]

# A first call may compile for longer than any deadline; the same examples every time.
hypothesis.settings.register_profile("began", deadline=None, derandomize=True)
hypothesis.settings.load_profile("began")


def make_config(**overrides: Any) -> Config:
    """configs/base.py at 16×16 with n = 4; overrides as model__n=8 for config.model.n = 8."""
    values = base.get_config().to_dict()
    values["model"].update(
        resolution=16, n=4, n_h=6, n_z=5, carry_steps=40, init="he", conv="phases"
    )
    values["train"].update(batch_size=4, num_steps=6, num_samples=4, log_every_steps=2)
    values["data"].update(num_images=32)
    for name, value in overrides.items():
        group, _, field = name.partition("__")
        if field:
            values[group][field] = value
        else:
            values[group] = value
    return config_lib.parse(values)


def make_data_config(source: str, **fields: Any) -> DataConfig:
    """Of one image, taken whole from the centre."""
    values: dict[str, Any] = {"name": "", "split": "", "path": "", "crop": "center", "crop_size": 0}
    values.update(max_bad_fraction=0.0, num_images=1, flip=False)
    return DataConfig(source=source, **{**values, **fields})


def some_slow(names: Sequence[str], slow: Collection[str]) -> list[Any]:
    """The names as parameters, those in `slow` left to `make test-slow`."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]


@pytest.fixture(autouse=True)
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing a test prepares outlives it."""
    monkeypatch.setenv("BEGAN_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
