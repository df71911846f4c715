"""Reading and writing results beside the loop, so that neither it nor the device waits for them."""

import dataclasses
from concurrent import futures

import jax
import numpy as np
from jax import Array

from began_jax import errors, pixels
from began_jax.telemetry import Telemetry
from began_jax.train_step import Metrics

_LAST_VALUES = ("k", "learning_rate")  # states; the other metrics are measurements and averaged


CURE = (
    "the checkpoints, if any, are from before. The usual cure is a lower "
    "config.optim.learning_rate, in a new --workdir"
)


class Diverged(errors.UserError):
    """A loss or a parameter is no longer finite."""


@dataclasses.dataclass(frozen=True)
class Record:
    """What one record needs, still on the device."""

    step: int
    images_per_second: float
    metrics: list[tuple[Metrics, int]]  # since the record before: (K,) by name, the first so many
    spread: Array  # of the fixed samples
    samples: Array | None  # float (N, R, R, C), where a grid is due
    reconstructions: Array | None  # likewise


class Recorder:
    """Writes one record at a time, on a thread of its own."""

    def __init__(self, telemetry: Telemetry, real: np.ndarray, data_spread: float):
        """`real`: the uint8 images that reconstructions are of."""
        self._telemetry = telemetry
        self._real = real
        self._data_spread = data_spread
        self._thread = futures.ThreadPoolExecutor(max_workers=1)
        self._writing: futures.Future[None] | None = None

    def put(self, record: Record) -> None:
        """Begins to write a record, when the one before is written.

        Raises:
          Diverged, UserError: what went wrong with the one before.
        """
        self.flush()
        self._writing = self._thread.submit(self._write, record)

    def flush(self) -> None:
        """Waits until all is written.

        Raises:
          Diverged: naming the first step at which a metric is not finite.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, record: Record) -> None:
        parts = jax.device_get(record.metrics)
        steps = {
            name: np.concatenate([part[name][:num] for part, num in parts]) for name in parts[0][0]
        }
        _check_finite(record.step, steps)
        scalars = {name: float(np.mean(values)) for name, values in steps.items()}
        scalars.update({name: float(steps[name][-1]) for name in _LAST_VALUES})
        scalars["sample_spread"] = float(record.spread) / self._data_spread
        scalars["images_per_second"] = record.images_per_second
        self._telemetry.write_scalars(record.step, scalars)
        if record.samples is not None and record.reconstructions is not None:
            grids = (record.samples, record.reconstructions)
            samples, reconstructions = (pixels.to_uint8(images) for images in jax.device_get(grids))
            self._telemetry.write_grids(record.step, samples, self._real, reconstructions)


def _check_finite(last_step: int, steps: dict[str, np.ndarray]) -> None:
    bad = {name: np.flatnonzero(~np.isfinite(values)) for name, values in steps.items()}
    firsts = [(places[0], name) for name, places in bad.items() if len(places)]
    if firsts:
        place, name = min(firsts)
        step = last_step - len(steps[name]) + 1 + place
        raise Diverged(f"{name} is {steps[name][place]} at step {step}; {CURE}")
