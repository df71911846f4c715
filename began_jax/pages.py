"""Self-contained HTML pages from templates.

Whatever stands in a run's config or records is only text there.
"""

import base64
import functools
import io
from pathlib import Path

import jinja2

from began_jax.data import decoding


@functools.cache
def template(path: Path) -> jinja2.Template:
    """A template that escapes what is put in, and raises for what it misses."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(path.name)


def picture(path: Path, widest: int, *, lossless: bool = False) -> str | None:
    """A picture, `widest` pixels wide at most, as the text of a src; None if it cannot be read."""
    try:
        small = decoding.open_image(path).convert("RGB")
        small.thumbnail((widest, 8 * widest))
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=85, lossless=lossless)
    except (OSError, ValueError):
        return None
    return uri(buffer.getvalue(), "webp")


def uri(data: bytes, kind: str) -> str:
    """A picture's bytes as the text of a src."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
