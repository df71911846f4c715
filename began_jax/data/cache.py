"""Prepared images: made once, then memory-mapped at every start."""

import contextlib
import hashlib
import io
import json
import math
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from began_jax import errors, files, progress
from began_jax.files import cache_dir

_PREPARATION_VERSION = 1  # raise it whenever the same key shall give other pixels
_STALE_SECONDS = 24 * 3600.0

Item = np.ndarray | None  # an image, a block of them, or one that is skipped


def prepared(
    key: Mapping[str, object],
    num_images: int,
    shape: tuple[int, int, int],
    images: Iterable[Item],
    *,
    label: str,
    notes: Mapping[str, object] | None = None,
) -> np.ndarray:
    """The images that belong to `key`; on the first call they are made from `images` and stored.

    They stand in `cache_dir()/images/<label>-<digest of the arguments>.npy`, the arguments beside
    it in a `.json`. A stored file whose header or size is wrong is made again. Several processes
    may ask for the same key at once: one prepares it, the others wait.

    Args:
      key: all that the pixels depend on; JSON values only.
      num_images: how many images come at most, skipped ones included.
      shape: (H, W, C) of an image.
      images: uint8 (H, W, C) images, (B, H, W, C) blocks of them, or None for one that is
        skipped. Iterated over on a miss only, so pass a generator.
      label: for people: what is being prepared, and the beginning of the file's name.
      notes: kept in the `.json`; read after the last image, so `images` may fill it.

    Returns:
      uint8 (N, H, W, C), 1 ≤ N ≤ num_images, memory-mapped and read-only.

    Raises:
      UserError: the cache cannot be written, or has too little space left.
      ValueError: no image came, too many, or one of another shape or type.
    """
    arguments = {
        "preparation": _PREPARATION_VERSION,
        "num_images": num_images,
        "shape": shape,
        "key": dict(key),
    }
    canonical = json.dumps(arguments, sort_keys=True, separators=(",", ":"))
    name = re.sub(r"[^A-Za-z0-9_]+", "-", label).strip("-")[:60]
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    path = cache_dir() / "images" / f"{name}-{digest}.npy"
    with _disk_errors_told(path.parent):
        mapped = _map(path, num_images, shape)
    if mapped is None:
        with _alone(path):
            with _disk_errors_told(path.parent):
                mapped = _map(path, num_images, shape)  # another may have made it meanwhile
            if mapped is None:
                if path.exists():
                    progress.say(f"{path} is damaged; it is prepared again")
                _write(path, num_images, shape, images, label)
                text = json.dumps({**arguments, "notes": dict(notes or {})}, indent=2)
                with _disk_errors_told(path.parent):
                    files.write_text(path.with_suffix(".json"), text + "\n")
                mapped = _map(path, num_images, shape)
    if mapped is None:
        raise errors.UserError(f"{path}: cannot be read back after it was written")
    return mapped


def _map(path: Path, num_images: int, shape: tuple[int, int, int]) -> np.ndarray | None:
    """The stored images, or None where the file is not exactly what `_write` leaves."""
    header_size = len(_header(0, shape))
    try:
        with path.open("rb") as file:
            header = file.read(header_size)
            size = os.fstat(file.fileno()).st_size
            # The size tells N; a header that says anything else is no header of ours.
            count = (size - header_size) // math.prod(shape)
            if (
                not 1 <= count <= num_images
                or size != header_size + count * math.prod(shape)
                or header != _header(count, shape)
            ):
                return None
            return np.memmap(file, np.uint8, "r", header_size, (count, *shape))
    except FileNotFoundError:
        return None


def _header(count: int, shape: tuple[int, int, int]) -> bytes:
    """The beginning of an .npy file; equally long for every count, as NumPy leaves room."""
    buffer = io.BytesIO()
    fields = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()


def _write(
    path: Path,
    num_images: int,
    shape: tuple[int, int, int],
    images: Iterable[Item],
    label: str,
) -> None:
    with contextlib.ExitStack() as stack:
        with _disk_errors_told(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(path.parent)
            _check_space(path.parent, num_images * math.prod(shape))
            temporary = stack.enter_context(files.replacing(path))
            # Plain writes raise on a full disk, where a memory map would end the process; with
            # a buffer the same error would come a second time from close().
            file = stack.enter_context(temporary.open("wb", buffering=0))
            _write_all(file, _header(0, shape))
        count = 0
        for block in _blocks(images, num_images, shape, label):
            with _disk_errors_told(path.parent):
                _write_all(file, block.tobytes())
            count += len(block)
        if not 1 <= count <= num_images:
            raise ValueError(f"{label}: {count} images came, expected 1 to {num_images}")
        with _disk_errors_told(path.parent):
            file.seek(0)
            _write_all(file, _header(count, shape))
            os.fsync(file.fileno())  # else a power cut may leave the name without the bytes


def _write_all(file: io.FileIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def _blocks(
    images: Iterable[Item], num_images: int, shape: tuple[int, int, int], label: str
) -> Iterator[np.ndarray]:
    """`images` as checked (B, H, W, C) blocks, without the skipped ones; shows the progress."""
    with progress.bar(num_images, f"preparing {label}", "images") as advance:
        for item in images:
            if item is None:
                advance(1)
                continue
            block = item[None] if item.ndim == 3 else item
            if block.shape[1:] != shape or block.dtype != np.uint8:
                raise ValueError(f"{label}: {item.dtype} {item.shape} came, expected uint8 {shape}")
            yield block
            advance(len(block))


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Waits until no other process is at work on this file."""
    with contextlib.ExitStack() as opened:
        with _disk_errors_told(path.parent):  # of the lock alone
            opened.enter_context(files.one_at_a_time(cache_dir() / "locks" / path.stem))
        yield


@contextlib.contextmanager
def _disk_errors_told(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise errors.UserError(
            f"{directory}: {error.strerror or error}; $BEGAN_JAX_CACHE names another place"
        ) from error


def _check_space(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise errors.UserError(
            f"{directory}: {needed / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free; "
            "$BEGAN_JAX_CACHE names another place"
        )


def _remove_stale(directory: Path) -> None:
    """Remove the temporary files of killed preparations: a live one has written within a day."""
    for path in directory.glob(".*.npy.*"):
        # As `prepared` and `files.replacing` name them.
        is_own = re.fullmatch(r"\..*-[0-9a-f]{64}\.npy\.[0-9a-f]{32}", path.name)
        with contextlib.suppress(FileNotFoundError):  # another process may be first
            status = path.lstat()
            is_stale = time.time() - status.st_mtime > _STALE_SECONDS
            if is_own and is_stale and stat.S_ISREG(status.st_mode):
                path.unlink()
