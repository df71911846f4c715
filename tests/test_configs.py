"""Every file of configs/ is a run that could start: it parses and its step traces at full size."""

import functools
import importlib.util
import re

import jax
import numpy as np
import pytest

from began_jax import config as config_lib
from began_jax import models, train_state, train_step
from tests.conftest import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.py"))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parse(path):
    values = load(path).get_config().to_dict()
    if path.stem == "folder":  # its one open field
        values["data"]["path"] = "photos"
    return config_lib.parse(values)


def test_the_configs_are_there():
    names = {"base", "demo", "cifar10", "celeba32", "celeba64", "celeba128", "celeba256", "folder"}
    assert names | {"ebgan64"} <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_whole_train_step_traces_at_full_size(path):
    config = parse(path)
    m = config.model
    images = jax.ShapeDtypeStruct(
        (config.train.batch_size, m.resolution, m.resolution, m.channels), np.uint8
    )
    state = jax.eval_shape(functools.partial(train_state.init, config))
    after, metrics = jax.eval_shape(functools.partial(train_step.train_step, config), state, images)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(
        lambda a: (a.shape, a.dtype), state
    )
    assert {value.shape for value in metrics.values()} == {()}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_name_is_the_files_and_the_docstring_gives_the_command(path):
    module = load(path)
    assert module.get_config().name == path.stem
    if path.stem != "base":
        assert f"--config=configs/{path.name}" in module.__doc__
        for heading in ("Hardware and time", "Expected"):
            assert re.search(f"^{heading}: .", module.__doc__, re.MULTILINE), heading


def test_celeba128_is_the_papers_largest_model():
    config = parse(ROOT / "configs" / "celeba128.py")
    state = jax.eval_shape(functools.partial(train_state.init, config))
    assert models.num_parameters((state.generator, state.discriminator)) == 17_268_038
