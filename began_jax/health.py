"""Whether a run is well: pure checks of what it has recorded, each with what to try.

A record is the mean of the steps since the one before (`metrics.jsonl`), so that every step counts
and none waits. docs/troubleshooting.md tells more about each alarm.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from began_jax import errors, objectives
from began_jax.schema import Config

Record = Mapping[str, float]

_LOWEST_SPREAD = 0.1  # of the data's; all samples are nearly the same
_LOST_SPREAD = 0.5  # of the highest so far
_AS_VARIED = 0.75  # of the highest
_BOUNDS = (0.0, 1.0)  # of k
_TOLERANCE = 0.5  # of γ, for L(G(z)) / L(x)
_LEAST_TOLERANCE = 0.1
_OUTSIDE = 0.5  # of the sampled values


class Alarm(NamedTuple):
    """What an alarm means: whether `health.policy` acts on it or it is only told, and the cure."""

    acted_on: bool
    remedy: str


# The paper and its followers' experience (docs/paper.md, "Training").
ALARMS = {
    "not_finite": Alarm(True, "a lower config.optim.learning_rate"),
    "collapse": Alarm(
        True,
        "a lower config.optim.learning_rate, a higher config.began.gamma, config.model.skips=True",
    ),
    "k_at_bound": Alarm(
        True, "at 0 a higher config.began.gamma, at 1 a lower one, or another config.began.lambda_k"
    ),
    "off_balance": Alarm(
        True, "a higher config.began.lambda_k, if k still moves; else another config.began.gamma"
    ),
    "stalled": Alarm(
        False, "nothing, if the samples are good; else more of config.model.n or of data"
    ),
    "out_of_range": Alarm(False, "a lower config.optim.learning_rate; config.model.init='paper'"),
}


class Unwell(errors.UserError):
    """An alarm that `health.policy` acts on.

    `good_step`: the last step that shows none of it; None: the newest checkpoint's.
    """

    def __init__(self, step: int, alarms: Mapping[str, str], good_step: int | None = None):
        told = "; ".join(f"{name}: {text}" for name, text in alarms.items())
        remedies = "; ".join(ALARMS[name].remedy for name in alarms)
        super().__init__(f"step {step}: {told}. What to try: {remedies}")
        self.step = step
        self.alarms = dict(alarms)
        self.good_step = good_step


def alarms(config: Config, records: Sequence[Record], since: int = 0) -> dict[str, str]:
    """What the newest of a run's records, in order, raises: texts by name.

    `since`: the step at which the run began or was last rolled back to; it has a window from there
    to recover.
    """
    checks: dict[str, Callable[[Config, Sequence[Record], int], str | None]] = {
        "collapse": _collapse,
        "k_at_bound": _k_at_bound,
        "off_balance": _off_balance,
        "stalled": _stalled,
        "out_of_range": _out_of_range,
    }
    if not objectives.of(config).is_controlled:  # k stays where it is and M_global means nothing
        del checks["k_at_bound"], checks["off_balance"], checks["stalled"]
    texts = {name: check(config, records, since) for name, check in checks.items()}
    return {name: text for name, text in texts.items() if text is not None}


def acted_on(alarms: Mapping[str, str]) -> dict[str, str]:
    """Those that `health.policy` acts on."""
    return {name: text for name, text in alarms.items() if ALARMS[name].acted_on}


def last_good_steps(config: Config, records: Sequence[Record]) -> dict[str, int]:
    """For each alarm that grows slowly, the last recorded step without a sign of it (0: none).

    That is: samples about as varied as ever; k off its bounds; losses in balance.
    """
    spreads = _spreads(config, records)
    lowest = max(_LOWEST_SPREAD, _AS_VARIED * max(spreads.values(), default=0.0))
    is_good: dict[str, Callable[[Record], bool]] = {
        "collapse": lambda record: spreads.get(record["step"], 0.0) >= lowest,
        "k_at_bound": lambda record: not any(_is_at(bound, [record]) for bound in _BOUNDS),
        "off_balance": lambda record: _is_balanced(config, _ratio([record])),
    }
    return {
        name: int(next((record["step"] for record in reversed(records) if good(record)), 0))
        for name, good in is_good.items()
    }


def _collapse(config: Config, records: Sequence[Record], since: int) -> str | None:
    spreads = _spreads(config, records)
    recovered = since + config.health.window_steps if since else 0
    if not spreads or records[-1]["step"] < recovered:
        return None
    *_, spread = spreads.values()
    lowest = max(_LOWEST_SPREAD, _LOST_SPREAD * max(spreads.values()))
    if spread >= lowest:
        return None
    return f"sample_spread {spread:.3f} is below {lowest:.3f}, the samples are too much alike"


def _spreads(config: Config, records: Sequence[Record]) -> dict[float, float]:
    """By step, from when on they count: every run begins with samples that are all alike."""
    grace = _grace_steps(config)
    return {
        record["step"]: record["sample_spread"] for record in records if record["step"] >= grace
    }


def _k_at_bound(config: Config, records: Sequence[Record], since: int) -> str | None:
    window = _window(config, records, since)
    for bound in _BOUNDS:
        if window and _is_at(bound, window):
            return f"k has been {bound:.0f} for {config.health.window_steps} steps"
    return None


def _is_at(bound: float, records: Sequence[Record]) -> bool:
    """Whether k was exactly at the bound in every step."""
    return all(record["k_min"] == record["k_max"] == bound for record in records)


def _off_balance(config: Config, records: Sequence[Record], since: int) -> str | None:
    window = _window(config, records, since)
    if not window:
        return None
    ratio = _ratio(window)
    if _is_balanced(config, ratio):
        return None
    return (
        f"L(G(z)) / L(x) was {ratio:.3f} over {config.health.window_steps} steps, gamma is "
        f"{config.began.gamma}"
    )


def _ratio(records: Sequence[Record]) -> float:
    """L(G(z)) / L(x)."""
    return _mean(records, "loss_fake") / max(_mean(records, "loss_real"), 1e-12)


def _is_balanced(config: Config, ratio: float) -> bool:
    gamma = config.began.gamma
    return abs(ratio - gamma) <= max(_TOLERANCE * gamma, _LEAST_TOLERANCE)


def _stalled(config: Config, records: Sequence[Record], since: int) -> str | None:
    floor = config.optim.min_learning_rate * (1 + 1e-4)  # what float32 makes of it
    window = _window(config, records, since)
    before = _window(config, records[: len(records) - len(window)], since)
    both = [*before, *window]
    if not before or not window or any(record["learning_rate"] > floor for record in both):
        return None
    now, then = _mean(window, "m_global"), _mean(before, "m_global")
    if then - now > config.optim.decay_threshold:
        return None
    return f"the learning rate is at its floor and M_global went from {then:.4f} to {now:.4f}"


def _out_of_range(config: Config, records: Sequence[Record], since: int) -> str | None:
    del config, since
    outside = records[-1]["sample_outside"]
    if outside <= _OUTSIDE:
        return None
    return f"{outside:.0%} of the samples' values lie outside the pixels' range"


def _window(config: Config, records: Sequence[Record], since: int) -> Sequence[Record]:
    """The records of the last `window_steps`; none before so many steps after the grace."""
    first = max(since, _grace_steps(config))
    if not records or records[-1]["step"] < first + config.health.window_steps:
        return []
    after = records[-1]["step"] - config.health.window_steps
    return [record for record in records if record["step"] > after]


def _grace_steps(config: Config) -> float:
    return config.health.grace_images / config.train.batch_size


def _mean(records: Sequence[Record], name: str) -> float:
    return statistics.fmean(record[name] for record in records)
