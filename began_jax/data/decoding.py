"""Image files to square uint8 arrays; the only module that imports Pillow's decoders."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL.Image
import PIL.ImageOps

from began_jax import errors

# Not all that Pillow knows: an EPS file, whatever its name, would start Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

_CELEBA_SIZE = (178, 218)  # width, height of the aligned images
_CELEBA_BOX = (25, 50, 153, 178)  # left, top, right, bottom: 128×128


def open_image(file: str | Path | BinaryIO) -> PIL.Image.Image:
    """Reads an image file completely; of an animated one the first frame.

    Raises:
      ValueError: one line, for a file that is no image of `FORMATS`, damaged, truncated, or has
        more than `PIL.Image.MAX_IMAGE_PIXELS` pixels.
      OSError: a path that cannot be opened.
    """
    if isinstance(file, str | Path):
        with Path(file).open("rb") as opened:
            return open_image(opened)
    try:
        with PIL.Image.open(file, formats=FORMATS) as image:
            # Pillow itself only warns until twice the limit, and its header is cheap to read.
            limit = PIL.Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise PIL.Image.DecompressionBombError(f"larger than {limit} pixels")
            image.load()
            return image.copy()  # without the file
    except PIL.UnidentifiedImageError as error:
        raise ValueError(f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file") from error
    except Exception as error:  # Pillow's parsers raise whatever they trip over
        text = errors.one_line(error)
        raise ValueError(f"{type(error).__name__}: {text}") from error


def to_image(pixels: np.ndarray) -> PIL.Image.Image:
    """A uint8 (H, W, 1) or (H, W, 3) array as an image."""
    return PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def to_array(
    image: PIL.Image.Image, *, resolution: int, channels: int, crop: str, crop_size: int
) -> np.ndarray:
    """Turns upright, crops to a square, converts to grey or RGB, and resizes, in this order.

    EXIF orientation is applied. Transparent images are put on white. 16-bit images are scaled to
    8 bits by 255/65535 and rounded; of 16-bit grey ones a transparent colour is ignored. CMYK is
    converted by Pillow's formula, and no colour profile is applied. Grey is the luma of Rec. 601.

    The resize is antialiased and never rings (no negative weights, unlike bicubic or Lanczos).
    Where the side is a multiple of the resolution it is the block mean, rounded once (so for
    CelebA's 128 → 64); otherwise Pillow's HAMMING, as its box filter takes an uneven number of
    source pixels then. Smaller images are enlarged, too.

    Args:
      image: any mode but F (floats have no fixed range).
      resolution: height and width of the result.
      channels: 1 (grey) or 3 (RGB).
      crop: "center": the central square; where the margin is odd, the left or upper one is the
        smaller. "celeba": 128×128 at (row 50, column 25) of an aligned 178×218 image.
      crop_size: side of the central square in pixels; 0: the shorter side.

    Returns:
      uint8 (resolution, resolution, channels).

    Raises:
      ValueError: one line: not 178×218 for "celeba", smaller than `crop_size` (enlarging only the
        small ones would mix scales), or a mode or value range that has no 8-bit meaning.
    """
    image = _upright(image)
    image = image.crop(_box(image.size, crop, crop_size))
    image = _convert(image, "L" if channels == 1 else "RGB")
    if image.width % resolution == 0:
        image = image.reduce(image.width // resolution)
    else:
        image = image.resize((resolution, resolution), PIL.Image.Resampling.HAMMING)
    return np.array(image).reshape(resolution, resolution, channels)


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    try:
        return PIL.ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block says nothing about the orientation; the pixels are fine
        return image


def _box(size: tuple[int, int], crop: str, crop_size: int) -> tuple[int, int, int, int]:
    width, height = size
    if crop == "celeba":
        if size != _CELEBA_SIZE:
            raise ValueError(f"{width}×{height} pixels; crop 'celeba' needs aligned 178×218")
        return _CELEBA_BOX
    side = crop_size or min(size)
    if side > min(size):
        raise ValueError(f"{width}×{height} pixels; smaller than crop_size {crop_size}")
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def _convert(image: PIL.Image.Image, mode: str) -> PIL.Image.Image:
    if image.mode == "F":
        raise ValueError("mode F: floating-point pixels have no fixed range")
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _to_8_bits(image)
    elif image.has_transparency_data:
        white = PIL.Image.new("RGBA", image.size, "white")
        image = PIL.Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert(mode)


def _to_8_bits(image: PIL.Image.Image) -> PIL.Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"mode {image.mode}: values beyond 16 bits")
    return PIL.Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 = 255 · 257
