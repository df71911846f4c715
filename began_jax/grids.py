"""Image grids and PNG files."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from began_jax import files
from began_jax.data import decoding

_SMALLEST_CELL = 64  # pixels, in an enlarged picture


def grid(images: np.ndarray, *, gap: int = 0) -> np.ndarray:
    """uint8 (N, H, W, C) as one nearly square (rows·H, columns·W, C); empty cells are white.

    `gap`: so many white pixels are put between cells.
    """
    num_images, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(num_images))
    rows = math.ceil(num_images / columns)
    cells = np.full((rows * columns, height, width, channels), 255, np.uint8)
    cells[:num_images] = images
    return table(cells.reshape(rows, columns, height, width, channels), gap=gap)


def table(images: np.ndarray, *, gap: int = 0) -> np.ndarray:
    """uint8 (rows, columns, H, W, C) as one (rows·H, columns·W, C), without the gaps."""
    padded = np.pad(images, [(0, 0), (0, 0), (0, gap), (0, gap), (0, 0)], constant_values=255)
    rows, columns, height, width, channels = padded.shape
    whole = padded.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
    return whole[: rows * height - gap, : columns * width - gap]


def beside(pictures: Sequence[np.ndarray], gap: int = 2) -> np.ndarray:
    """uint8 (H, W_i, C) side by side, white gaps between."""
    height, _, channels = pictures[0].shape
    white = np.full((height, gap, channels), 255, np.uint8)
    parts = [part for picture in pictures for part in (white, picture)]
    return np.concatenate(parts[1:], axis=1)


def enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture of images of `side` pixels so that these have 64 or more: pixels are repeated."""
    factor = -(-_SMALLEST_CELL // side)
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def save_png(path: Path, image: np.ndarray) -> None:
    """Writes uint8 (H, W, 1 or 3) as a PNG; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary:
        decoding.to_image(image).save(temporary, format="PNG")
