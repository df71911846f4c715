"""FID's weights from PyTorch's format to an .npz that needs neither pickle nor PyTorch.

    python -m began_jax.metrics.convert_inception IN.pth OUT.npz

IN.pth is weights-inception-2015-12-05-6726825d.pth of torch-fidelity's release v0.2.0, or
pt_inception-2015-12-05-6726825d.pth of pytorch-fid: the same 95,628,359 bytes, whose SHA-256 is
6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np

from began_jax import errors, files
from began_jax.metrics import inception, networks

_PUBLISHED = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def main() -> int:
    """Converts the file that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="IN.pth")
    parser.add_argument("target", type=Path, metavar="OUT.npz")
    arguments = parser.parse_args()
    try:
        sha256 = convert(arguments.source, arguments.target)
    except errors.UserError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    note = "the published weights" if sha256 == _PUBLISHED else "NOT the published"
    print(f"{arguments.target} written; {arguments.source} has SHA-256 {sha256}: {note}")
    return 0


def convert(source: Path, target: Path) -> str:
    """Writes the arrays of a PyTorch state_dict that the network needs, under their names.

    Returns:
      The SHA-256 of `source`, in hexadecimal.

    Raises:
      UserError: one line: no PyTorch, no such file, another layout, or no place to write.
    """
    try:
        import torch  # here, as nothing else needs it
    except ImportError as error:
        raise errors.UserError("convert_inception needs PyTorch: pip install torch") from error
    try:
        with source.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise errors.UserError(f"{source}: {error.strerror or error}") from error
    except Exception as error:  # of several types; the text proposes to trust the file
        raise errors.UserError(f"{source}: is no PyTorch file of weights alone") from error
    try:
        if not isinstance(state, dict):
            raise ValueError("no state_dict")
        tensors = {key: np.asarray(state[key]) for key in inception.SHAPES if key in state}
        arrays = networks.checked(tensors, inception.SHAPES)
    except (ValueError, TypeError, RuntimeError) as error:
        problem = errors.one_line(error)
        raise errors.UserError(f"{source}: {problem}; FID's weights are needed") from error
    try:
        files.write_npz(target, **arrays)
    except OSError as error:
        raise errors.UserError(f"{target}: {error.strerror or error}") from error
    return sha256


if __name__ == "__main__":
    sys.exit(main())
