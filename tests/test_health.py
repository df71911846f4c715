"""The alarms: each fires on its own history and on no healthy one."""

import dataclasses

import pytest

from began_jax import health
from tests.conftest import make_config

CONFIG = make_config(
    train__batch_size=4,
    began__gamma=0.5,
    optim__learning_rate=1e-4,
    optim__min_learning_rate=2e-5,
    health__window_steps=100,
    health__grace_images=200,  # 50 steps
)


def history(num=30, every=10, **columns):
    """`num` healthy records; a column is a value for all or a function of the step."""
    healthy = {
        "loss_real": 0.06,
        "loss_fake": 0.03,
        "k": lambda step: 0.08 + 0.001 * (step % 30),
        "m_global": lambda step: 0.1 - 1e-5 * step,
        "learning_rate": 1e-4,
        "sample_spread": lambda step: min(step / 100, 0.7),
        "sample_outside": 0.02,
    }
    columns = {**healthy, **columns}
    return [
        record(step, {n: v(step) if callable(v) else v for n, v in columns.items()})
        for step in range(every, num * every + 1, every)
    ]


def record(step, values):
    return {"step": step, "k_min": values["k"], "k_max": values["k"], **values}


def raised(**columns):
    """The alarms of every record of such a history, with the step they first came at."""
    records = history(**columns)
    found = {}
    for i in range(1, len(records) + 1):
        for name in health.alarms(CONFIG, records[:i]):
            found.setdefault(name, records[i - 1]["step"])
    return found


def test_a_healthy_run_raises_none():
    assert raised() == {}
    assert health.alarms(CONFIG, history(num=1)) == {}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        # Alike from the start: told when the grace of 50 steps is over.
        ({"sample_spread": 0.01}, {"collapse": 50}),
        # Lost again: 0.34 is below half of the highest, 0.7.
        ({"sample_spread": lambda step: 0.7 if step < 200 else 0.34}, {"collapse": 200}),
        ({"sample_spread": lambda step: 0.7 if step < 200 else 0.36}, {}),
        # He's initial weights begin with noise that differs, which is no measure of later samples.
        ({"sample_spread": lambda step: 2.7 if step < 50 else 0.6}, {}),
        # A window that begins when the grace is over.
        ({"k": 0.0}, {"k_at_bound": 150}),
        ({"k": lambda step: 0.5 if step <= 70 else 1.0}, {"k_at_bound": 170}),
        ({"k": 0.0, "k_max": lambda step: 0.01 if step == 120 else 0.0}, {"k_at_bound": 220}),
        ({"k": 0.5}, {}),
        ({"k": 1.0, "k_min": 0.5}, {}),
        ({"loss_fake": 0.06}, {"off_balance": 150}),
        ({"loss_fake": 0.01}, {"off_balance": 150}),
        ({"loss_fake": lambda step: 0.06 if step < 90 else 0.03}, {}),
        # Two windows at the floor, M_global no lower in the second.
        ({"learning_rate": 2e-5, "m_global": 0.06}, {"stalled": 250}),
        ({"learning_rate": 2e-5, "m_global": lambda step: 0.1 - 1e-4 * step}, {}),
        ({"m_global": 0.06}, {}),
        ({"sample_outside": lambda step: 0.6 if step == 30 else 0.1}, {"out_of_range": 30}),
    ],
)
def test_an_alarm_fires_when_it_must(columns, expected):
    assert raised(**columns) == expected


def test_without_a_controller_nothing_is_said_of_k_and_m_global():
    values = {"k": 0.0, "loss_fake": 0.5, "learning_rate": 2e-5, "m_global": 0.06}
    records = history(sample_spread=0.01, **values)
    assert set(health.alarms(CONFIG, records)) == {
        *("collapse", "k_at_bound", "off_balance", "stalled")
    }
    ebgan = dataclasses.replace(
        CONFIG, objective=dataclasses.replace(CONFIG.objective, name="ebgan")
    )
    assert set(health.alarms(ebgan, records)) == {"collapse"}


def test_a_record_of_many_steps_counts_whole():
    records = history(num=3, every=150, k=0.0)
    assert list(health.alarms(CONFIG, records[:1])) == ["k_at_bound"]
    # The last step's k alone says little of so many.
    records = history(num=3, every=150, k=0.0, k_max=0.02)
    assert health.alarms(CONFIG, records[:1]) == {}


def test_what_is_told_has_the_values_and_the_remedy():
    texts = health.alarms(CONFIG, history(sample_spread=0.01, learning_rate=2e-5, m_global=0.06))
    assert texts["collapse"].startswith("sample_spread 0.010 is below 0.100")
    assert list(health.acted_on(texts)) == ["collapse"]
    error = health.Unwell(300, health.acted_on(texts))
    assert str(error).startswith("step 300: collapse: sample_spread 0.010")
    assert str(error).endswith(health.ALARMS["collapse"].remedy)
    assert len(str(error).splitlines()) == 1


def test_a_run_that_was_rolled_back_has_a_window_to_recover():
    records = history(sample_spread=0.01, k=0.0)
    first = {}
    for i in range(16, len(records) + 1):
        for name in health.alarms(CONFIG, records[:i], since=150):
            first.setdefault(name, records[i - 1]["step"])
    assert first == {"collapse": 250, "k_at_bound": 250}


def test_what_was_lost_before_a_rollback_is_still_missed_after_it():
    records = history(sample_spread=lambda step: 0.7 if step <= 150 else 0.2)
    assert list(health.alarms(CONFIG, records, since=150)) == ["collapse"]


def test_a_rollback_early_in_the_grace_does_not_end_it():
    short = dataclasses.replace(CONFIG.health, window_steps=20)
    config = dataclasses.replace(CONFIG, health=short)
    records = history(num=4, sample_spread=0.01, k=0.0)
    assert health.alarms(config, records, since=10) == {}


@pytest.mark.parametrize(
    ("columns", "name", "expected"),
    [
        ({"sample_spread": lambda step: 0.7 if step <= 200 else 0.1}, "collapse", 200),
        # 0.57 is above three quarters of 0.75.
        ({"sample_spread": lambda step: 0.75 - 0.001 * (step - 50)}, "collapse", 230),
        ({"sample_spread": 0.05}, "collapse", 0),  # never varied: from the start
        ({"k": lambda step: 0.1 if step <= 150 else 0.0}, "k_at_bound", 150),
        ({"k": lambda step: 0.1 if step <= 150 else 1.0}, "k_at_bound", 150),
        ({"k": 0.0, "k_max": lambda step: 0.1 if step == 60 else 0.0}, "k_at_bound", 60),
        ({"loss_fake": lambda step: 0.03 if step <= 170 else 0.06}, "off_balance", 170),
        ({"loss_fake": lambda step: 0.06 if step <= 170 else 0.01}, "off_balance", 0),
    ],
)
def test_the_last_good_step_is_where_an_alarm_s_trouble_began(columns, name, expected):
    well = dict.fromkeys(("collapse", "k_at_bound", "off_balance"), 300)
    assert health.last_good_steps(CONFIG, history(**columns)) == {**well, name: expected}
