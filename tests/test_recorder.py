import threading
from typing import NamedTuple

import numpy as np
import pytest
from jax import numpy as jnp

from began_jax.health import Unwell
from began_jax.recorder import Record, Recorder
from tests.conftest import make_config


class FakeTelemetry:
    def __init__(self):
        self.scalars, self.alarms, self.grids, self.num_steps = {}, {}, {}, {}
        self.num_pages = 0

    def write_scalars(self, step, num_steps, scalars, alarms):
        self.scalars[step] = scalars
        self.num_steps[step] = num_steps
        self.alarms[step] = alarms

    def write_alarms(self, step, alarms):
        self.alarms[step] = alarms

    def write_grids(self, step, samples, real, reconstructions):
        self.grids[step] = samples, real, reconstructions

    def write_page(self):
        self.num_pages += 1


def metrics(losses, ks):
    return {
        "loss_real": jnp.array(losses, jnp.float32),
        "loss_fake": jnp.array(losses, jnp.float32) / 2,
        "k": jnp.array(ks, jnp.float32),
        "learning_rate": jnp.array(ks, jnp.float32),
    }


def record(step, losses, samples=None, spread=0.1, state=None):
    ks = range(len(losses))
    # The first step on its own, the others as a dispatch that could have held one more.
    first, others = metrics(losses[:1], ks[:1]), metrics([*losses[1:], np.nan], [*ks[1:], 9])
    parts = [(first, 1), (others, len(losses) - 1)]
    outside = jnp.float32(0.25)
    return Record(step, 7.0, parts, jnp.float32(spread), outside, samples, samples, state)


def make(real=None, save=None, past=(), since=0, **overrides):
    telemetry = FakeTelemetry()
    return telemetry, Recorder(telemetry, make_config(**overrides), real, 0.2, past, since, save)


class State(NamedTuple):
    """What `is_finite` looks at."""

    value: float
    plateau: None = None

    def replace(self, **values):
        return self._replace(**values)


def slow(telemetry):
    """Makes it write no scalars before the event that is returned is set."""
    may_write = threading.Event()
    write_scalars = telemetry.write_scalars

    def write_late(*record):
        assert may_write.wait(60)
        write_scalars(*record)

    telemetry.write_scalars = write_late
    return may_write


def test_the_loop_goes_on_while_a_record_is_written():
    telemetry, recorder = make()
    may_write = slow(telemetry)
    recorder.put(record(2, [1.0, 3.0]))
    assert telemetry.scalars == {}
    may_write.set()
    recorder.put(record(4, [5.0, 5.0]))
    assert next(iter(telemetry.scalars)) == 2
    recorder.flush()
    recorder.flush()
    assert list(telemetry.scalars) == [2, 4]


def test_what_went_wrong_with_a_record_is_told_at_the_next():
    _, recorder = make()
    recorder.put(record(2, [1.0, float("nan")]))
    with pytest.raises(Unwell, match="at step 2"):
        recorder.put(record(4, [5.0, 5.0]))


def test_measurements_are_means_and_states_are_last_values():
    telemetry, recorder = make()
    recorder.put(record(2, [1.0, 3.0]))
    recorder.flush()
    assert telemetry.scalars[2] == {
        "loss_real": 2.0,
        "loss_fake": 1.0,
        "k": 1.0,
        "k_min": 0.0,
        "k_max": 1.0,
        "learning_rate": 1.0,
        "sample_spread": pytest.approx(0.5),
        "sample_outside": 0.25,
        "images_per_second": 7.0,
    }


def test_grids_are_bytes_beside_the_real_images():
    real = np.zeros((1, 2, 2, 3), np.uint8)
    telemetry, recorder = make(real)
    recorder.put(record(2, [1.0], samples=jnp.full((1, 2, 2, 3), 0.5)))
    recorder.flush()
    samples, shown, reconstructions = telemetry.grids[2]
    assert shown is real
    assert (samples == 255).all()
    assert (reconstructions == 255).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_step_that_diverged_is_named(bad):
    telemetry, recorder = make()
    recorder.put(record(10, [1.0, 1.0, bad, bad]))
    with pytest.raises(Unwell, match=r"loss_\w+ is (nan|inf) at step 9"):
        recorder.flush()
    assert telemetry.scalars == {}
    assert list(telemetry.alarms[10]) == ["not_finite"]


def test_samples_that_are_not_numbers_are_no_collapse():
    telemetry, recorder = make(health__grace_images=0)
    recorder.put(record(10, [1.0, 1.0], spread=float("nan")))
    with pytest.raises(Unwell, match=r"sample_spread is nan at step 10") as raised:
        recorder.flush()
    assert list(raised.value.alarms) == list(telemetry.alarms[10]) == ["not_finite"]
    assert raised.value.good_step is None
    assert telemetry.scalars == {}


def test_a_state_that_is_not_finite_is_recorded_and_not_saved():
    saved = []
    for put in ("put", "save"):
        telemetry, recorder = make(save=lambda *call: saved.append(call))
        if put == "put":
            recorder.put(record(10, [1.0], state=State(float("nan"))))
        else:
            recorder.save(10, State(float("nan")))
        with pytest.raises(Unwell, match="a parameter is not finite after step 10"):
            recorder.flush()
        assert list(telemetry.alarms[10]) == ["not_finite"]
    assert saved == []


def test_an_alarm_is_told_or_ends_the_run_and_then_nothing_is_saved():
    saved = []
    losses = {"loss_real": 1.0, "loss_fake": 0.5}  # gamma is 0.5
    k = {"k": 0.5, "k_min": 0.5, "k_max": 0.5}
    past = [{"step": 1, **k, **losses, "learning_rate": 1e-4, "sample_spread": 0.9}]
    for policy in ("warn", "stop"):
        telemetry, recorder = make(
            save=lambda *call: saved.append(call),
            past=past,
            health__policy=policy,
            health__grace_images=0,
        )
        num_before = len(saved)
        recorder.put(record(2, [1.0], spread=0.16, state=State(2.0)))
        recorder.put(record(4, [1.0], spread=0.001, state=State(4.0)))
        if policy == "warn":
            recorder.flush()
        else:
            with pytest.raises(Unwell, match=r"step 4: collapse: sample_spread 0\.005") as raised:
                recorder.flush()
            assert list(raised.value.alarms) == ["collapse"]
            assert raised.value.good_step == 2
        assert {step: list(alarms) for step, alarms in telemetry.alarms.items()} == {
            2: [],
            4: ["collapse"],
        }
        # The last page shows what ended the run.
        assert telemetry.num_pages == len(saved) - num_before + (policy == "stop")
    # With each save the last steps that show nothing of a collapse, of k at a bound, off balance.
    first = (2, State(2.0), [2, 1, 2])
    assert saved == [first, (4, State(4.0), [2, 1, 4]), first]


def test_a_page_that_cannot_be_written_hides_no_alarm(capsys):
    def full():
        raise OSError(28, "No space left on device")

    telemetry, recorder = make()
    telemetry.write_page = full
    recorder.put(record(2, [np.nan]))
    with pytest.raises(Unwell, match="not_finite: loss_"):
        recorder.flush()
    assert "report.html: " in capsys.readouterr().err


def test_after_a_rollback_a_run_has_time_to_recover():
    options = {"health__grace_images": 0, "health__window_steps": 10, "health__policy": "stop"}
    _, recorder = make(since=2, **options)
    recorder.put(record(8, [1.0], spread=0.001))
    recorder.flush()
    recorder.put(record(12, [1.0], spread=0.001))
    with pytest.raises(Unwell, match="step 12: collapse"):
        recorder.flush()


def test_what_it_writes_to_is_closed_after_the_record_in_hand():
    telemetry, recorder = make()
    may_write = slow(telemetry)
    with recorder:
        recorder.put(record(2, [1.0]))
        threading.Timer(0.2, may_write.set).start()
        assert telemetry.scalars == {}
    assert list(telemetry.scalars) == [2]
