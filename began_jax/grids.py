"""Image grids and PNG files."""

import math
from pathlib import Path

import numpy as np

from began_jax import files
from began_jax.data import decoding


def grid(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, C) as one nearly square (rows·H, columns·W, C); empty cells are black."""
    num_images, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(num_images))
    rows = math.ceil(num_images / columns)
    cells = np.zeros((rows * columns, height, width, channels), np.uint8)
    cells[:num_images] = images
    return table(cells.reshape(rows, columns, height, width, channels))


def table(images: np.ndarray) -> np.ndarray:
    """uint8 (rows, columns, H, W, C) as one (rows·H, columns·W, C)."""
    rows, columns, height, width, channels = images.shape
    return images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def save_png(path: Path, image: np.ndarray) -> None:
    """Writes uint8 (H, W, 1 or 3) as a PNG; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary:
        decoding.to_image(image).save(temporary, format="PNG")
