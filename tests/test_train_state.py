"""What the state tells of itself."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from began_jax import train_state
from tests.conftest import make_config

STATE = train_state.init(make_config(model__n=2, model__n_h=2, model__n_z=2))


@pytest.mark.parametrize(
    "part",
    ["generator", "generator_average", "generator_adam", "discriminator", "discriminator_adam"],
)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_number_that_is_not_finite_is_seen_wherever_it_is(part, bad):
    assert train_state.is_finite(STATE)
    leaves, tree = jax.tree.flatten(getattr(STATE, part))
    leaf = jnp.asarray(leaves[-1], jnp.float32)
    leaves[-1] = leaf.at[(0,) * leaf.ndim].set(bad)
    assert not train_state.is_finite(STATE.replace(**{part: jax.tree.unflatten(tree, leaves)}))
