"""Where files go, and writing them so that nobody ever sees half of one."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


def cache_dir() -> Path:
    """The one folder outside the run folder that is written to: prepared data, compiled programs.

    $BEGAN_JAX_CACHE, else $XDG_CACHE_HOME/began_jax, else ~/.cache/began_jax.
    """
    if "BEGAN_JAX_CACHE" in os.environ:
        return Path(os.environ["BEGAN_JAX_CACHE"])
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "began_jax"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same directory; renamed to `path` on success, else removed."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file through a temporary name."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
