"""What a run's checks of itself cost: demo runs with and without them, in turns.

    python -m benchmarks.checks_cost --rounds=10 --out=benchmarks/checks_cost.json

Without: no alarm is looked for, no samples are made for it, no step and no parameter is asked
whether it is finite, no checkpoint gets a digest. A turn is one run of --steps steps in this
process, timed from its first record to its last, three saves included; ratios are taken pair by
pair. Then each check on its own, at the width of the demo and of the paper's largest model.
"""

import argparse
import contextlib
import functools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
from jax import Array
from jax import numpy as jnp

from began_jax import (
    backends,
    checkpoints,
    files,
    generate,
    health,
    recorder,
    restoring,
    runtime,
    train,
    train_state,
)
from began_jax import config as config_lib
from began_jax.config import Config
from began_jax.train_state import TrainState
from benchmarks import bench
from configs import celeba128, demo


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="pairs of runs")
    parser.add_argument("--steps", type=int, default=1500, help="of a run; saves each 500")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    runtime.configure()
    ratios = []
    for i in range(options.rounds):
        order = [True, False] if i % 2 else [False, True]
        rates = {checked: _rate(options.steps, checked) for checked in order}
        ratios.append(rates[False] / rates[True] - 1)
        print(f"with {rates[True]:.1f}, without {rates[False]:.1f} images/s", flush=True)
    report = {
        "machine": bench.machine(),
        "jax": jax.__version__,
        "rounds": options.rounds,
        "steps": options.steps,
        "cost": {
            "median": statistics.median(ratios),
            "mean": statistics.fmean(ratios),
            "standard_error": statistics.stdev(ratios) / len(ratios) ** 0.5,
            "values": ratios,
        },
        "single": {
            "demo": _single(demo.get_config().to_dict()),
            "celeba128": _single(celeba128.get_config().to_dict()),
        },
    }
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        files.write_text(options.out, text + "\n")


def _rate(num_steps: int, checked: bool) -> float:
    values = demo.get_config().to_dict()
    values["train"].update(num_steps=num_steps, checkpoint_every_steps=500)
    with tempfile.TemporaryDirectory() as folder, _silence(), _checks(checked):
        train.train(config_lib.parse(values), Path(folder))
        records = restoring.records(Path(folder))[1:]  # the first has the compilation's end
    return len(records) / sum(1 / record["images_per_second"] for record in records)


@contextlib.contextmanager
def _checks(wanted: bool) -> Iterator[None]:
    with contextlib.ExitStack() as patches:
        if not wanted:
            for owner, name, without in (
                (health, "alarms", lambda *_: {}),
                (recorder, "_first_not_finite", lambda *_: None),
                (health, "last_good_steps", lambda *_: {}),
                (generate, "fixed_samples", _no_samples),
                (recorder, "is_finite", lambda _: jnp.bool(True)),
                (checkpoints, "fingerprint", lambda _: ""),
            ):
                patches.enter_context(mock.patch.object(owner, name, without))
        yield


def _no_samples(config: Config, state: TrainState) -> tuple[Array, Array, Array]:
    side = config.model.resolution
    empty = jnp.zeros((config.train.num_samples, side, side, config.model.channels))
    return empty, jnp.float32(0.1), jnp.float32(0.0)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


def _single(values: dict[str, Any]) -> dict[str, float]:
    """Milliseconds of each check, medians, and the size of the state that they look at."""
    config = config_lib.parse(values)
    state = train_state.init(config)
    finite = jax.jit(train_state.is_finite)
    samples = jax.jit(functools.partial(generate.fixed_samples, backends.for_one_pass(config)))
    record = {
        **dict.fromkeys(("sample_spread", "k", "k_min", "k_max", "loss_real", "m_global"), 0.5),
        "loss_fake": 0.25,
        "learning_rate": 1e-4,
        "sample_outside": 0.0,
    }
    records = [{"step": 100.0 * i, **record} for i in range(4000)]
    return {
        "ms, 64 fixed samples, once a record": _ms(lambda: jax.block_until_ready(samples(state))),
        "ms, alarms after 4,000 records, once a record": _ms(
            lambda: health.alarms(config, records)
        ),
        "ms, last good steps after 4,000 records, once a save": _ms(
            lambda: health.last_good_steps(config, records)
        ),
        "ms, finite, once a save": _ms(lambda: finite(state).block_until_ready()),
        "ms, digest, once a save": _ms(lambda: checkpoints.fingerprint(state)),
        "millions of numbers in the state": sum(leaf.size for leaf in jax.tree.leaves(state)) / 1e6,
    }


def _ms(function: Callable[[], object]) -> float:
    function()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


if __name__ == "__main__":
    main()
