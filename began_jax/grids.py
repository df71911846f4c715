"""Image grids and PNG files."""

import math
from pathlib import Path

import numpy as np
from PIL import Image

from began_jax import files


def grid(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, C) as one nearly square (rows·H, columns·W, C); empty cells are black."""
    num_images, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(num_images))
    rows = math.ceil(num_images / columns)
    cells = np.zeros((rows * columns, height, width, channels), np.uint8)
    cells[:num_images] = images
    cells = cells.reshape(rows, columns, height, width, channels)
    return cells.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def save_png(path: Path, image: np.ndarray) -> None:
    """Writes uint8 (H, W, 1 or 3) as a PNG; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    with files.replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
