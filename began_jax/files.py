"""Where files go, and writing them so that nobody ever sees half of one."""

import contextlib
import fcntl
import hashlib
import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from began_jax import errors


def cache_dir() -> Path:
    """The one folder outside the run folder that is written to: prepared data, compiled programs.

    $BEGAN_JAX_CACHE, else $XDG_CACHE_HOME/began_jax, else ~/.cache/began_jax.
    """
    if own := os.environ.get("BEGAN_JAX_CACHE"):
        return Path(own).expanduser()
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "began_jax"


def check_no_link(path: Path) -> None:
    """Raise UserError if `path` is a symbolic link, through which another file could be lost."""
    if path.is_symlink():
        raise errors.UserError(
            f"{path}: must not be a symbolic link. Replace it with what it links to."
        )


def open_to_append(path: Path) -> BinaryIO:
    """Open or create a file without changing its content, never through a symbolic link.

    Raises:
      UserError: the path is a symbolic link.
    """
    check_no_link(path)
    # The flag covers a link that another process makes after the check.
    return open(path, "ab", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same directory; renamed to `path` on success, else removed.

    Raises:
      UserError: `path` is a symbolic link.
    """
    check_no_link(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def exclusive(directory: Path, *, patience_seconds: float = 0.0) -> Iterator[None]:
    """Keeps `directory` to this process within the block; the system frees it when a process dies.

    Raises:
      UserError: another process has it, for longer than the patience lasts, or its lock is a
        symbolic link.
    """
    end = time.monotonic() + patience_seconds
    with open_to_append(directory / ".lock") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    message = f"{directory}: another process is working in it"
                    raise errors.UserError(message) from None
            time.sleep(1)
        yield


@contextlib.contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Waits until no other process is in the block with the same lock, a file that is left."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open_to_append(lock) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_npz(path: Path, **arrays: Any) -> None:
    """Writes arrays by name as an .npz through a temporary name."""
    # Through an open file, as np.savez appends .npz to a name that lacks it.
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def cached_npz(
    what: str,
    key: Mapping[str, Any],
    make: Callable[[], Mapping[str, Any]],
    read: Callable[[Mapping[str, np.ndarray]], Any],
) -> tuple[Any, str]:
    """What `read` gets out of arrays by name, and the file's name in the cache's `<what>s`.

    The name is a SHA-256 of the key, which says all that the arrays depend on; where there is no
    such file, `make` makes them first.

    Raises:
      UserError: the file cannot be read, or `read` does not find in it what it needs.
    """
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    path = cache_dir() / f"{what}s" / f"{name}.npz"
    if not path.exists():
        place = path.parent
        print(f"the {what} is made once and then kept in {place}", file=sys.stderr, flush=True)
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_npz(path, **made)
    try:
        with path.open("rb") as stored, np.load(stored, allow_pickle=False) as saved:
            return read(saved), name
    except Exception as error:  # zipfile and NumPy raise whatever they trip over
        raise errors.UserError(
            f"{path}: the {what} cannot be read ({errors.one_line(error)}); delete it, and it is "
            "made again"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file through a temporary name."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """What a JSON file holds, or None where there is none.

    Raises:
      UserError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise errors.UserError(f"{path}: cannot be read ({errors.one_line(error)})") from error
