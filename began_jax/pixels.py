"""The one scale of images inside the program: [−0.5, 0.5], as the paper's co-author advised.

The scale of the pixels sets that of L and M_global, and so the effective λ_k: on [−1, 1] all three
are twice as large (η = 1).
"""

import numpy as np
from jax import Array
from jax import numpy as jnp


def to_float(images: Array) -> Array:
    """uint8 images 0..255 to float32 in [−0.5, 0.5]."""
    return images.astype(jnp.float32) / 255.0 - 0.5


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Float images around [−0.5, 0.5], clipped to it, rounded to uint8 0..255."""
    return np.clip(np.rint((np.asarray(images, np.float32) + 0.5) * 255.0), 0, 255).astype(np.uint8)
