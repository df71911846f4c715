"""FID's network beside torch-fidelity's, on the same random weights.

    python -m benchmarks.inception_parity

Needs requirements-bench.txt. The weights go the way that the published ones go: a state_dict,
`began_jax.metrics.convert`, an .npz. Prints the largest difference of the resized images
and of each output, relative to the largest value, and the first values of PyTorch's output for the
first 32×32 image, which tests/test_feature_networks.py holds.
"""

import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from jax import numpy as jnp

from began_jax.metrics import convert, inception, networks

_OUTPUTS = ("64", "192", "768", "2048", "logits_unbiased")
_TOLERANCE = 1e-4


def main() -> int:
    """Compares images of several sizes; 1 where any differs by more than 1e-4."""
    import torch
    from torch_fidelity import interpolate_compat_tensorflow
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with tempfile.TemporaryDirectory() as directory:
        pth, npz = Path(directory, "random.pth"), Path(directory, "random.npz")
        state = {key: torch.from_numpy(array) for key, array in random_state().items()}
        state["fc.bias"] = torch.zeros(len(state["fc.weight"]))  # is not read
        torch.save(state, pth)
        convert.convert("inception", pth, npz)
        network = networks.load("inception", npz)
        theirs = FeatureExtractorInceptionV3("random", list(_OUTPUTS), str(pth))
    forward = jax.jit(lambda images: inception.forward(network.params, (images - 128) / 128))
    worst = 0.0
    for height, width in ((32, 32), (64, 64), (48, 320)):
        images = random_images(3, height, width)
        tensor = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        expected = {
            "resized": interpolate_compat_tensorflow.interpolate_bilinear_2d_like_tensorflow1x(
                tensor.float(), size=(inception.SIDE, inception.SIDE), align_corners=False
            ).permute(0, 2, 3, 1)
        }
        expected.update(zip(_OUTPUTS, theirs(tensor), strict=True))
        resized = inception.resize(jnp.asarray(images))
        ours = {"resized": resized, **forward(resized)}
        for name, output in expected.items():
            reference = output.numpy()
            difference = np.abs(ours[name] - reference).max() / np.abs(reference).max()
            worst = max(worst, float(difference))
            values = np.array2string(reference[0].ravel()[:4], precision=7, separator=", ")
            print(f"{height}×{width} {name:15} {difference:.1e}  PyTorch's {values}")
    return int(worst > _TOLERANCE)


def random_state() -> dict[str, np.ndarray]:
    """Weights in PyTorch's names whose outputs stay of size 1; the same in every NumPy."""
    generator = np.random.PCG64(1)
    state: dict[str, np.ndarray] = {}
    for key, shape in inception.SHAPES.items():
        unit = _uniform(generator, shape)
        if len(shape) > 1:
            state[key] = unit * np.float32((6 / np.prod(shape[1:])) ** 0.5)
        elif key.endswith((".bn.weight", ".bn.running_var")):
            state[key] = 1 + unit / 2
        else:
            state[key] = unit / 4
    return state


def random_images(num: int, height: int, width: int) -> np.ndarray:
    """uint8 (num, height, width, 3), the same in every NumPy."""
    shape = (num, height, width, 3)
    return (127.5 + 127.5 * _uniform(np.random.PCG64(2), shape)).astype(np.uint8)


def _uniform(generator: np.random.PCG64, shape: tuple[int, ...]) -> np.ndarray:
    """float32 in [−1, 1), from raw numbers alone: those NumPy promises to keep."""
    raw = np.asarray(generator.random_raw(int(np.prod(shape))), np.uint64)
    return ((raw >> np.uint64(40)).astype(np.float32) / 2**23 - 1).reshape(shape)


if __name__ == "__main__":
    sys.exit(main())
