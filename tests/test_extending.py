"""The Python of docs/extending.md, run from top to bottom, trains, loads, measures and controls."""

import re

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from began_jax import config as config_lib
from began_jax import equilibrium, evaluate, objectives, rules, train_state
from began_jax.train_step import train_step
from tests.conftest import ROOT, make_config

DOCUMENT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page():
    names: dict = {}
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 8
    for block in blocks:
        exec(block, names)  # noqa: S102
    return names


@pytest.fixture
def config_of(page, monkeypatch):
    """What the lines that the page adds to lists would do."""
    known = {"least_squares": page["OBJECTIVE"], "edges": page["EDGES"]}
    monkeypatch.setattr(objectives, "_OBJECTIVES", objectives._OBJECTIVES | known)
    monkeypatch.setattr(rules, "OBJECTIVES", (*rules.OBJECTIVES, *known))
    return lambda name, **more: make_config(objective__name=name, model__carry_steps=0, **more)


@pytest.mark.parametrize("name", ["least_squares", "edges"])
def test_its_objectives_train(config_of, name):
    config = config_of(name, began__shared_z=True, began__k_init=0.5)
    state = train_state.init(config)
    batch = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    step = jax.jit(lambda state: train_step(config, state, batch))
    after, metrics = step(step(state)[0])
    for part in ("generator", "discriminator"):
        before, now = (jax.tree.leaves(getattr(s, part)) for s in (state, after))
        assert all((a != b).any() for a, b in zip(before, now, strict=True))
    assert train_state.is_finite(after)
    assert all(np.isfinite(value) for value in metrics.values())


def test_least_squares_is_zero_where_the_critic_is_right(page, monkeypatch):
    monkeypatch.setattr(page["hinge"], "critic", lambda config, d, v, carry: v.mean((1, 2, 3)))
    objective, now = page["OBJECTIVE"], objectives.Context(0.0, None, 0, None)
    ones, zeros = jnp.ones((2, 4, 4, 3)), jnp.zeros((2, 4, 4, 3))
    assert objective.discriminator(None, {}, ones, zeros, None, now) == (0.0, 0.0)
    assert objective.discriminator(None, {}, zeros, ones, None, now) == (1.0, 0.5)
    assert objective.generator(None, {}, zeros, now) == (0.5, 0.0)


def test_its_config_parses(page, config_of):
    config = config_lib.parse(page["get_config"]().to_dict())
    assert config.objective.name == config.name == "least_squares"


def test_its_source_gives_images_once(page):
    config = make_config(data__num_images=12).data
    images = page["load"](config, resolution=16, channels=3)
    assert (images.dtype, images.shape) == (np.uint8, (12, 16, 16, 3))
    assert images.std() > 20
    assert (images[0] != images[1]).any()
    again = page["load"](config, resolution=16, channels=3)
    np.testing.assert_array_equal(images, again)


def test_its_metric_is_a_distance_of_means(page):
    images = np.zeros((2, 4, 4, 3), np.uint8)
    other = images.copy()
    other[..., 1] = 7
    assert page["mean_colour_distance"](images, images) == 0.0
    assert page["mean_colour_distance"](other, images) == pytest.approx(7.0)


def test_the_lines_that_the_page_changes_are_there(page):
    """Those of its diffs that are context or are taken away, up to an ellipsis or a comment."""
    code = "".join(
        (ROOT / "began_jax" / name).read_text(encoding="utf-8")
        for name in ("objectives/__init__.py", "rules.py", "evaluate.py")
    )
    old = re.findall(r"^[ -](.+)$", "".join(re.findall(r"```diff\n(.*?)```", DOCUMENT, re.S)), re.M)
    assert len(old) == 4
    for line in old:
        assert re.split(r" *#|\.\.\.", line)[0] in code
    assert {"images", "indices"} <= set(evaluate.Comparison.__annotations__)
    assert hasattr(evaluate, "_PAIRS")
    assert hasattr(rules, "_OF_VECTORS") and hasattr(rules, "OF_WHOLE_BATCHES")


def test_its_leaking_controller_settles_where_the_leak_and_the_error_are_even(page):
    state = equilibrium.init(0.0)
    for _ in range(2000):
        fake = 0.01 + 0.08 * state.k
        state = page["update"](state, jnp.float32(0.1), fake, gamma=0.5, lambda_k=0.1)
    # k = 0.999 (k + 0.1 (0.05 − 0.01 − 0.08 k))
    assert float(state.k) == pytest.approx(0.999 * 0.004 / (0.001 + 0.999 * 0.008), rel=1e-3)
