import numpy as np
import pytest
from jax import numpy as jnp

from began_jax import losses


@pytest.mark.parametrize(("eta", "expected"), [(1, (3 + 1) / 4), (2, (9 + 1) / 4)])
def test_reconstruction_error_is_a_mean_over_every_element(eta, expected):
    v = jnp.array([[[[3.0, 0.0]]], [[[0.0, -1.0]]]])
    assert float(losses.reconstruction_errors(v, jnp.zeros_like(v), eta).mean()) == expected


def test_reconstruction_error_is_float32_before_it_averages():
    v = jnp.full((1, 64, 64, 1), 1.0, jnp.bfloat16)
    reconstruction = jnp.full((1, 64, 64, 1), 0.99, jnp.bfloat16)
    (error,) = losses.reconstruction_errors(v, reconstruction, 1)
    assert error.dtype == jnp.float32
    np.testing.assert_allclose(error, 1.0 - np.float32(reconstruction[0, 0, 0, 0]), rtol=1e-6)
