"""What a run's checks of itself cost: one demo run that makes them in every second stretch.

    python -m benchmarks.checks_cost --pairs=120 --out=benchmarks/checks_cost.json

A stretch is _STRETCH steps with a record and a save, far more often than a run has them, so that
the checks show beside the noise. Without them no samples are made for the record, no alarm is
looked for, no step and no parameter is asked whether it is finite, no checkpoint gets a digest. A
pair is a stretch with the checks minus the one before without; the share of the run is their median
over the time of the steps between the demo's records, as if it saved as often. Then each check on
its own, at the width of the demo and of the paper's largest model.
"""

import argparse
import contextlib
import functools
import itertools
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
    sharding,
    train,
    train_state,
)
from began_jax import config as config_lib
from began_jax.train_state import TrainState
from benchmarks import bench
from configs import celeba128, demo

_STRETCH = 50  # steps


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=120)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    runtime.configure()
    values = demo.get_config().to_dict()
    seconds = _stretches(values, 2 * options.pairs)
    without, checked = seconds[::2], seconds[1::2]
    added = sorted(b - a for a, b in zip(without, checked, strict=True))
    between_records = values["train"]["log_every_steps"] / _STRETCH * statistics.median(without)
    report = {
        "machine": bench.machine(),
        "jax": jax.__version__,
        "pairs": options.pairs,
        "seconds of a stretch without": statistics.median(without),
        "seconds added": {
            "median": statistics.median(added),
            # Of the binomial's quantiles: the median lies between in 95 % of experiments.
            "95 % interval": [added[i] for i in _around_median(len(added))],
            "quartiles": statistics.quantiles(added, n=4),
        },
        "share of the run": statistics.median(added) / between_records,
        "single": {
            "demo": _single(values),
            "celeba128": _single(celeba128.get_config().to_dict()),
        },
    }
    report["share's 95 % interval"] = [
        seconds / between_records for seconds in report["seconds added"]["95 % interval"]
    ]
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        files.write_text(options.out, text + "\n")


def _around_median(num: int) -> tuple[int, int]:
    """Places, in order, of the values around the median of `num` in 95 % of samples."""
    reach = 1.96 * num**0.5 / 2
    return max(0, int(num / 2 - reach)), min(num - 1, int(num / 2 + reach))


def _stretches(values: dict[str, Any], num: int) -> list[float]:
    """Seconds of each stretch, in order; those of odd place with checks."""
    train_values = {**values["train"], "num_steps": (num + 2) * _STRETCH}
    train_values.update(log_every_steps=_STRETCH, checkpoint_every_steps=_STRETCH)
    train_values["sample_every_images"] = 10**9  # grids are no check
    config = config_lib.parse({**values, "train": train_values})
    with tempfile.TemporaryDirectory() as folder, _silence(), _checks_in_turns():
        train.train(config, Path(folder))
        records = restoring.records(Path(folder))
    images = _STRETCH * config.train.batch_size
    # The first two have the end of the compilation.
    return [images / record["images_per_second"] for record in records[2:]]


@contextlib.contextmanager
def _checks_in_turns() -> Iterator[None]:
    """Samples are made at the end of a stretch, all else about it within the one that follows."""
    compile_for = sharding.compile_for

    def compiled(mesh: Any, function: Any, *arguments: Any) -> Any:
        made = compile_for(mesh, function, *arguments)
        is_samples = getattr(function, "func", None) is generate.fixed_samples
        return _in_turns(made, _no_samples, first=False) if is_samples else made

    with contextlib.ExitStack() as patches:
        for owner, name, without in (
            (health, "alarms", lambda *_: {}),
            (recorder, "_first_not_finite", lambda *_: None),
            (recorder.Recorder, "_save_if_well", lambda it, step, state: it._save(step, state, [])),
            (checkpoints, "fingerprint", lambda _: ""),
        ):
            turns = _in_turns(getattr(owner, name), without, first=True)
            patches.enter_context(mock.patch.object(owner, name, turns))
        patches.enter_context(mock.patch.object(sharding, "compile_for", compiled))
        yield


def _in_turns(check: Callable[..., Any], without: Callable[..., Any], *, first: bool) -> Any:
    """A function that is `check` in every second call, the first or not."""
    is_due = itertools.cycle([first, not first])

    def turn(*arguments: Any) -> Any:
        return (check if next(is_due) else without)(*arguments)

    return turn


def _no_samples(state: TrainState) -> tuple[Array, Array, Array]:
    return jnp.zeros(()), jnp.float32(0.1), jnp.float32(0.0)


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
