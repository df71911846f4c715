"""Reading and writing results beside the loop, so that neither it nor the device waits for them."""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any, NoReturn

import jax
import numpy as np
from jax import Array

from began_jax import errors, health, pixels, progress
from began_jax.health import Unwell
from began_jax.schema import Config
from began_jax.telemetry import Silence, Telemetry
from began_jax.train_state import TrainState, is_finite
from began_jax.train_step import Metrics

_LAST_VALUES = ("k", "learning_rate")  # states; the other metrics are measurements and averaged


@dataclasses.dataclass(frozen=True)
class Record:
    """What one record needs, still on the device."""

    step: int
    images_per_second: float
    metrics: list[tuple[Metrics, int]]  # by dispatch: (K,) by name, of which the first `int` count
    spread: Array  # of the fixed samples
    outside: Array  # the share of their values outside the pixels' range
    samples: Array | None  # float (N, R, R, C), where a grid is due
    reconstructions: Array | None  # likewise, where D is an auto-encoder
    state: TrainState | None  # a copy, where a save is due


class Recorder:
    """Writes one record at a time, on a thread of its own, and saves a state that is well.

    Use as a context manager: leaving it waits for the record in hand.
    """

    def __init__(
        self,
        telemetry: Telemetry | Silence,
        config: Config,
        real: np.ndarray,
        data_spread: float,
        past: Sequence[dict[str, Any]],
        since: int,
        save: Callable[[int, TrainState, Sequence[int]], None],
    ):
        """What all records of a run share.

        Args:
          real: uint8 images that reconstructions are of.
          data_spread: `identity.spread` of the data.
          past: the run's records so far.
          since: see `health.alarms`.
          save: called with a step, its state and the values of `health.last_good_steps`.
        """
        self._telemetry = telemetry
        self._config = config
        self._real = real
        self._data_spread = data_spread
        self._records = list(past)
        self._since = since
        self._save = save
        self._finite = jax.jit(is_finite)
        self._thread = futures.ThreadPoolExecutor(max_workers=1)
        self._writing: futures.Future[None] | None = None

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._thread.shutdown()  # what it writes to is closed next

    def put(self, record: Record) -> None:
        """Begins to write a record, when the one before is written.

        Raises:
          Unwell, UserError: what went wrong with the one before.
        """
        self.flush()
        self._writing = self._thread.submit(self._write, record)

    def save(self, step: int, state: TrainState) -> None:
        """Begins to save a state that no record is due with, when the one before is written.

        Raises:
          Unwell, UserError: what went wrong with the one before.
        """
        self.flush()
        self._writing = self._thread.submit(self._save_if_well, step, state)

    def flush(self) -> None:
        """Waits until all is written.

        Raises:
          Unwell, UserError: what went wrong.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, record: Record) -> None:
        parts = jax.device_get(record.metrics)
        steps = {
            name: np.concatenate([part[name][:num] for part, num in parts]) for name in parts[0][0]
        }
        spread = float(record.spread)
        bad = _first_not_finite(record.step, {**steps, "sample_spread": np.array([spread])})
        if bad is not None:
            self._end(record.step, bad)
        scalars = {name: float(np.mean(values)) for name, values in steps.items()}
        scalars.update({name: float(steps[name][-1]) for name in _LAST_VALUES})
        scalars["k_min"], scalars["k_max"] = float(steps["k"].min()), float(steps["k"].max())
        scalars["sample_spread"] = spread / self._data_spread
        scalars["sample_outside"] = float(record.outside)
        scalars["images_per_second"] = record.images_per_second
        num_steps = len(steps["k"])
        self._records.append({"step": record.step, "num_steps": num_steps, **scalars})
        alarms = health.alarms(self._config, self._records, self._since)
        self._telemetry.write_scalars(record.step, num_steps, scalars, alarms)
        if record.samples is not None:
            samples, reconstructions = jax.tree.map(
                pixels.to_uint8, jax.device_get((record.samples, record.reconstructions))
            )
            self._telemetry.write_grids(record.step, samples, self._real, reconstructions)
        acted_on = health.acted_on(alarms)
        if acted_on and self._config.health.policy != "warn":
            self._write_last_page()
            good = health.last_good_steps(self._config, self._records)
            raise Unwell(record.step, acted_on, min(good[name] for name in acted_on))
        if record.state is not None:
            self._save_if_well(record.step, record.state)

    def _save_if_well(self, step: int, state: TrainState) -> None:
        if not self._finite(state):
            self._end(step, f"a parameter is not finite after step {step}")
        good = health.last_good_steps(self._config, self._records)
        self._save(step, state, [*good.values()])
        self._telemetry.write_page()

    def _end(self, step: int, not_finite: str) -> NoReturn:
        alarms = {"not_finite": not_finite}
        self._telemetry.write_alarms(step, alarms)
        self._write_last_page()
        raise Unwell(step, alarms)

    def _write_last_page(self) -> None:
        """Of a run that an alarm ends: which is told whatever becomes of the page."""
        try:
            self._telemetry.write_page()
        except (errors.UserError, OSError) as error:
            progress.say(f"report.html: {errors.one_line(error)}")


def _first_not_finite(last_step: int, steps: dict[str, np.ndarray]) -> str | None:
    bad = {name: np.flatnonzero(~np.isfinite(values)) for name, values in steps.items()}
    firsts = [(places[0], name) for name, places in bad.items() if len(places)]
    if not firsts:
        return None
    place, name = min(firsts)
    return f"{name} is {steps[name][place]} at step {last_step - len(steps[name]) + 1 + place}"
