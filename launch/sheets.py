"""Labelled pictures on one sheet, as PNGs that stay small. Pure."""

import io
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont

LARGEST = 300_000  # bytes of a PNG
_WIDTH = 1000  # pixels
_GAP, _LINE, _FONT_SIZE = 8, 16, 11
_SMALLEST_CELL = 32  # pixels


def of_grids(grids: Mapping[str, Image.Image], columns: int, side: int) -> bytes:
    """Corners of square grids of so many columns of images, by label, side by side.

    Of each as many images as keep the PNG below `LARGEST`. `side`: of an image before a grid was
    enlarged, in pixels.
    """
    cell = max(side, _SMALLEST_CELL)
    png = b""
    for shown in range(columns, 0, -1):
        corners = {}
        for label, grid in grids.items():
            width = grid.width * shown // columns
            corner = grid.crop((0, 0, width, width))
            corners[label] = corner.resize((cell * shown,) * 2, Image.Resampling.NEAREST)
        png = _png(_sheet(corners, _WIDTH))
        if len(png) <= LARGEST:
            break
    return png


def of_pictures(pictures: Mapping[str, Image.Image]) -> bytes:
    """Pictures by label, one below the other, made smaller until the PNG is below `LARGEST`."""
    png = _png(_sheet(pictures, 1))
    while len(png) > LARGEST:
        pictures = {label: one.reduce(2) for label, one in pictures.items()}
        png = _png(_sheet(pictures, 1))
    return png


def _sheet(pictures: Mapping[str, Image.Image], width: int) -> Image.Image:
    """Pictures in rows that are as wide as `width` allows, one at least, each below its label."""
    cell_width = max(one.width for one in pictures.values()) + _GAP
    cell_height = max(one.height for one in pictures.values()) + _GAP + _LINE
    columns = max(min(width // cell_width, len(pictures)), 1)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell_width - _GAP, rows * cell_height - _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    # Pillow's own has no Greek.
    font = ImageFont.truetype(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", _FONT_SIZE)
    for i, (label, one) in enumerate(pictures.items()):
        x, y = i % columns * cell_width, i // columns * cell_height
        draw.text((x, y), label, fill="black", font=font)
        sheet.paste(one, (x, y + _LINE))
    return sheet


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return out.getvalue()
