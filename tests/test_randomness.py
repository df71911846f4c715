import jax
import numpy as np
from jax import numpy as jnp

from began_jax import randomness
from began_jax.randomness import Purpose


def test_no_two_uses_share_a_key():
    keys = [
        tuple(np.asarray(jax.random.key_data(randomness.key(seed, purpose, index))))
        for seed in (0, 1, 2**32 - 1)
        for purpose in Purpose
        for index in (0, 1, 2**31 - 1)
    ]
    assert len(set(keys)) == len(keys)


def test_a_key_does_not_depend_on_how_the_seed_is_held():
    static = randomness.key(3, Purpose.STEP, 5)
    traced = jax.jit(lambda s, i: randomness.key(s, Purpose.STEP, i))(jnp.uint32(3), jnp.int32(5))
    assert jnp.array_equal(jax.random.key_data(static), jax.random.key_data(traced))
