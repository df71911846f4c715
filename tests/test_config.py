import dataclasses
import json

import pytest

from began_jax import config as config_lib
from began_jax.config import ConfigError
from configs import base
from tests.conftest import make_config


def test_the_base_config_names_exactly_the_fields_there_are():
    config = config_lib.parse(base.get_config().to_dict())
    assert dataclasses.asdict(config) == base.get_config().to_dict()


def test_json_round_trip():
    config = make_config(began__gamma=0.3)
    assert config_lib.parse(json.loads(config_lib.to_json(config))) == config


# A value that is refused for every field that can be wrong on its own.
BAD = {
    "name": "a/b",
    "seed": -1,
    "model.preset": "resnet",
    "model.resolution": 48,
    "model.channels": 4,
    "model.n": 0,
    "model.n_h": 0,
    "model.n_z": 0,
    "model.repeats": 0,
    "model.carry_steps": -1,
    "model.init": "xavier",
    "model.conv": "fast",
    "model.dtype": "float16",
    "began.gamma": 1.5,
    "began.lambda_k": -0.1,
    "began.lambda_p": -0.1,
    "objective.name": "gan",
    "objective.cs_weight": -0.1,
    "objective.noise_level": -0.1,
    "objective.noise_steps": -1,
    "objective.kl_weight": -0.1,
    "objective.margin": 0.0,
    "objective.pt_weight": -0.1,
    "began.k_init": 2.0,
    "began.eta": 3,
    "optim.learning_rate": 2.0,
    "optim.b1": 1.0,
    "optim.b2": -0.1,
    "optim.decay_window_steps": 0,
    "optim.decay_threshold": 0.0,
    "optim.min_learning_rate": 1.0,
    "optim.ema_half_life_images": -1,
    "data.source": "http",
    "data.crop": "left",
    "data.crop_size": -1,
    "data.max_bad_fraction": 1.1,
    "data.num_images": 0,
    "train.batch_size": 0,
    "train.num_steps": 0,
    "train.microbatches": 0,
    "train.steps_per_dispatch": -1,
    "train.num_samples": 1,
    "train.log_every_steps": 0,
    "train.sample_every_images": 0,
    "train.checkpoint_every_steps": 0,
    "train.checkpoints_to_keep": 0,
    "train.keep_checkpoint_every_steps": -1,
    "health.policy": "hope",
    "health.max_rollbacks": -1,
    "health.window_steps": 0,
    "health.grace_images": -1,
    "eval.network": "vgg",
    "eval.num_samples": 999,
    "eval.num_seeds": 0,
    "eval.every_steps": 3000,
    "eval.samples_in_training": 999,
}
ANY_VALUE = {
    *("model.skips", "began.shared_z", "began.alternating", "data.flip"),  # switches,
    "train.shard_optimizer",  # another
    *("data.name", "data.split", "data.path"),  # judged together with data.source, below
    "eval.weights",  # read when it is needed
}


def test_the_table_of_bad_values_is_complete():
    assert set(BAD) | ANY_VALUE == set(config_lib.flatten(make_config()))


@pytest.mark.parametrize("field", BAD)
def test_an_impossible_value_is_named_with_what_is_allowed(field):
    with pytest.raises(ConfigError) as error:
        make_config(**{field.replace(".", "__"): BAD[field]})
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"config.{field} = {BAD[field]!r}: ")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"data__source": "tfds"}, "config.data.name = '': a TFDS name is needed"),
        (
            {"data__source": "tfds", "data__name": "mnist", "data__split": ""},
            "config.data.split = '': a TFDS split is needed",
        ),
        (
            {"data__source": "folder"},
            "config.data.path = '': a path is needed when data.source is 'folder'",
        ),
        ({"model__n": "many"}, "config.model.n = 'many': int is needed"),
        ({"model__n": True}, "config.model.n = True: int is needed"),
        ({"began__gamma": float("nan")}, "config.began.gamma = nan: a finite number is needed"),
        (
            {"model__conv": "winograd", "model__dtype": "bfloat16"},
            "config.model.conv = 'winograd': its sums need model.dtype 'float32'",
        ),
        (
            {"train__steps_per_dispatch": 4},
            "config.train.steps_per_dispatch = 4: a divisor of train.log_every_steps and "
            "train.checkpoint_every_steps",
        ),
        (
            {"train__keep_checkpoint_every_steps": 3_000},  # it would keep every second one
            "config.train.keep_checkpoint_every_steps = 3000: 0 (off) or a multiple of "
            "train.checkpoint_every_steps",
        ),
        ({"model": 3}, "config.model = 3: a group of fields is needed"),
    ],
)
def test_other_mistakes_are_named(overrides, line):
    with pytest.raises(ConfigError) as error:
        make_config(**overrides)
    assert str(error.value) == line


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigError) as error:
        make_config(model__n=0, train__batch_size=0)
    assert len(str(error.value).splitlines()) == 2


def test_a_whole_number_is_a_float_where_a_float_is_needed():
    assert make_config(began__gamma=1).began.gamma == 1.0


def test_a_misspelt_or_missing_field_is_named():
    values = base.get_config().to_dict()
    values["model"]["chanels"] = values["model"].pop("channels")
    with pytest.raises(ConfigError, match=r"config.model.chanels.*did you mean config.model.chann"):
        config_lib.parse(values)
    del values["model"]["chanels"]
    with pytest.raises(ConfigError, match=r"config.model.channels: missing"):
        config_lib.parse(values)


def test_a_file_that_holds_no_config_is_one_line(tmp_path):
    for text in ("null", "5", "[1]", "{"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ConfigError, match=r"config\.json: [^\n]*$"):
            config_lib.load(tmp_path / "config.json")


def test_check_field_knows_groups_fields_and_nothing_else():
    config_lib.check_field("model")
    config_lib.check_field("model.n")
    for wrong in ("modell", "model.nn", "seed.x", "zzz"):
        with pytest.raises(ConfigError, match=r"no such field"):
            config_lib.check_field(wrong)


def test_only_what_changes_the_computation_stands_in_the_way_of_a_resume():
    config = make_config()
    longer = make_config(name="other", train__num_steps=99, train__log_every_steps=7)
    assert config_lib.differing_fields(config, longer) == []
    other = make_config(began__gamma=0.3, train__batch_size=8)
    assert config_lib.differing_fields(config, other) == [
        ("config.began.gamma", 0.5, 0.3),
        ("config.train.batch_size", 4, 8),
    ]
