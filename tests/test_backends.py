import jax
import pytest

from began_jax import backends
from began_jax.config import ConfigError
from tests.conftest import make_config


@pytest.fixture
def jaxlib(monkeypatch):
    """Sets the version and the processor that the module sees."""

    def set_to(version, machine="x86_64"):
        monkeypatch.setattr(backends.metadata, "version", lambda _: version)
        monkeypatch.setattr(backends.platform, "machine", lambda: machine)

    monkeypatch.delenv("XLA_FLAGS", raising=False)
    return set_to


def model(conv="auto", **overrides):
    overrides = {f"model__{name}": value for name, value in overrides.items()}
    return backends.resolve(make_config(model__conv=conv, **overrides)).model


@pytest.mark.parametrize("version", ["0.10.2", "0.12.0.1"])
def test_auto_takes_matrix_products_where_they_are_fast_and_maps_are_wide(jaxlib, version):
    jaxlib(version)
    assert model(n=64).conv == "winograd"
    assert model(n=16).conv == "phases"
    assert model(n=64, dtype="bfloat16").conv == "phases"
    jaxlib(version, "aarch64")
    assert model(n=64).conv == "phases"


def test_auto_takes_phases_where_nothing_was_measured(jaxlib):
    jaxlib("0.13.0")
    assert model(n=64).conv == "phases"


def test_an_accelerator_takes_transposed_convolutions_and_refuses_winograd(jaxlib, monkeypatch):
    jaxlib("0.12.0.1")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert model(n=64).conv == "transposed"
    assert backends.for_one_pass(make_config()).model.conv == "transposed"
    assert backends.compiler_options(model(n=64)) == {}
    with pytest.raises(ConfigError, match=r"config.model.conv = 'winograd'"):
        model(conv="winograd")


@pytest.mark.parametrize("form", ["plain", "phases", "transposed", "winograd"])
def test_a_named_form_is_taken(form):
    assert model(conv=form).conv == form


def test_options_are_named_for_the_versions_they_were_tried_on(jaxlib):
    jaxlib("0.10.2")
    assert list(backends.compiler_options(model())) == ["xla_cpu_experimental_ynn_fusion_type"]
    jaxlib("0.12.0.1")
    assert backends.compiler_options(model(n=64))["xla_cpu_experimental_onednn_custom_call"] is True
    assert backends.compiler_options(model(n=16)) == {}
    jaxlib("0.13.0")
    assert backends.compiler_options(model(n=64)) == {}


@pytest.mark.parametrize("version", ["0.10.2", "0.12.0.1"])
@pytest.mark.parametrize(
    "flag",
    ["--xla_cpu_experimental_ynn_fusion_type=", "--xla_cpu_experimental_onednn_custom_call=false"],
)
def test_options_of_the_user_are_left_alone(jaxlib, monkeypatch, version, flag):
    jaxlib(version)
    monkeypatch.setenv("XLA_FLAGS", flag)
    assert backends.compiler_options(model(n=64)) == {}


def test_a_program_without_gradients_takes_no_matrix_products(jaxlib):
    for form, expected in {"winograd": "phases", "auto": "phases", "plain": "plain"}.items():
        config = make_config(model__conv=form)
        assert backends.for_one_pass(config).model.conv == expected


def test_steps_per_dispatch_divide_what_stands_between_two_records(monkeypatch):
    def chosen(*, resident=True, **overrides):
        values = {f"train__{name}": value for name, value in overrides.items()}
        config = backends.resolve_dispatch(make_config(**values), resident=resident)
        return config.train.steps_per_dispatch

    often = {"log_every_steps": 100, "checkpoint_every_steps": 2000}
    assert chosen(**often) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert chosen(**often) == 10
    assert chosen(**often, resident=False) == 1
    assert chosen(log_every_steps=7, checkpoint_every_steps=14) == 7
    assert chosen(log_every_steps=53, checkpoint_every_steps=53) == 1
    assert chosen(steps_per_dispatch=2, log_every_steps=4, checkpoint_every_steps=8) == 2
