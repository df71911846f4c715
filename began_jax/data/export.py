"""The embedded faces as a folder of PNGs, for whatever reads images.

python -m began_jax.data.export photos --num=3000 --side=96
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from began_jax import grids, progress
from began_jax.data import synthetic_faces

_SEED = 1  # not the data's own
_AT_ONCE = 100


def main(arguments: Sequence[str]) -> int:
    """Does what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="new, or empty")
    parser.add_argument("--num", type=int, default=3000, help="images; default: 3000")
    parser.add_argument("--side", type=int, default=96, help="pixels, 16 to 256; default: 96")
    options = parser.parse_args(arguments)
    lowest, highest = synthetic_faces.MIN_RESOLUTION, synthetic_faces.MAX_RESOLUTION
    if options.num < 1:
        parser.error(f"--num={options.num}: 1 or more")
    if not lowest <= options.side <= highest:
        parser.error(f"--side={options.side}: {lowest} to {highest}")
    if options.folder.exists() and (options.folder.is_file() or any(options.folder.iterdir())):
        parser.error(f"{options.folder}: it is there and not empty")
    with progress.bar(options.num, "drawing", "faces") as advance:
        blocks = synthetic_faces.in_blocks(_SEED, options.num, _AT_ONCE, options.side)
        for i, image in enumerate(image for images, _ in blocks for image in images):
            grids.save_png(options.folder / f"{i:06d}.png", image)
            advance(1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
