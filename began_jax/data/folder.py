"""Images of a directory tree or a .zip, decoded once."""

import contextlib
import hashlib
import io
import json
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from began_jax import errors, progress
from began_jax.config import ConfigError
from began_jax.data import cache, decoding, parallel
from began_jax.schema import DataConfig

SUFFIXES = (  # in any case; other files are ignored
    ".bmp",
    ".gif",
    ".jfif",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
MAX_FILE_BYTES = 2**29  # a larger one is bad: read whole, it could take the machine's memory

_NUM_BAD_SEEN = 100  # before it is given up early, so that the message shows how bad it is
_NUM_BAD_NAMED = 3
_UNREADABLE = (  # what zipfile raises for damaged, encrypted or exotic members, and what we do
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def load(config: DataConfig, *, resolution: int, channels: int) -> np.ndarray:
    """Every image below `config.path`, a directory or a .zip, in the order of the relative paths.

    Files with one of `SUFFIXES` count as images. Ignored are hidden files and directories, linked
    directories, and links to files outside. A .zip is read in place. What `decoding` cannot turn
    into an image is told, listed in the cache's `.json` and skipped.

    Returns:
      uint8 (N, resolution, resolution, channels), memory-mapped.

    Raises:
      ConfigError: one line: no such path, neither a directory nor a .zip, no images in it, or more
        undecodable ones than `config.max_bad_fraction` of them.
    """
    with _files(config) as files:
        return _prepare(config, files, resolution, channels)


def contents(config: DataConfig, num: int | None) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the first `num` files (None: all) that `load` would take.

    Raises:
      ConfigError: no such path, neither a directory nor a .zip, or no images in it.
      ValueError: one line naming a file that is too large or cannot be read.
    """
    with _files(config) as files:
        for file in files[:num]:
            try:
                yield file.name, _read(file)
            except _UNREADABLE as error:
                raise ValueError(f"{file.name}: {errors.one_line(error)}") from error


class _File(NamedTuple):
    name: str
    size: int
    stamp: int  # changes with the content: modification time in ns, or CRC
    read: Callable[[], bytes]


@contextlib.contextmanager
def _files(config: DataConfig) -> Iterator[list[_File]]:
    """The files of the directory or the .zip, which is open meanwhile; at least one."""
    path = Path(config.path).expanduser()
    if not path.exists():
        raise ConfigError(f"{_field(config)}: no such directory or .zip file")
    with contextlib.ExitStack() as opened:
        if path.is_dir():
            found = _in_directory(config, path.resolve())
        else:
            found = _in_zip(opened.enter_context(_open_zip(config, path)))
        if not found:
            endings = ", ".join(SUFFIXES)
            raise ConfigError(f"{_field(config)}: no images in it; they end in {endings}")
        yield found


def _read(file: _File) -> bytes:
    if file.size > MAX_FILE_BYTES:
        raise ValueError(f"{file.size} bytes, {MAX_FILE_BYTES} are allowed")
    return file.read()


def _in_directory(config: DataConfig, root: Path) -> list[_File]:
    def stop(error: OSError) -> None:  # os.walk would go on without that directory's images
        raise ConfigError(f"{_field(config)}: {error}") from error

    found = []
    for folder, subfolders, names in os.walk(root, onerror=stop):
        subfolders[:] = [name for name in subfolders if not _is_hidden(name)]
        for name in filter(_is_image, names):
            path = Path(folder, name)
            if path.is_file() and not _leads_outside(path, root):
                status = path.stat()
                relative = path.relative_to(root).as_posix()
                found.append(_File(relative, status.st_size, status.st_mtime_ns, path.read_bytes))
    return sorted(found, key=lambda file: file.name)


def _leads_outside(path: Path, root: Path) -> bool:
    return path.is_symlink() and not path.resolve().is_relative_to(root)


def _open_zip(config: DataConfig, path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except _UNREADABLE as error:
        raise ConfigError(
            f"{_field(config)}: a directory or an undamaged .zip is needed ({error})"
        ) from error


def _in_zip(archive: zipfile.ZipFile) -> list[_File]:
    def reader(member: zipfile.ZipInfo) -> Callable[[], bytes]:
        return lambda: archive.read(member)  # at most the declared size, from any thread

    return [
        _File(member.filename, member.file_size, member.CRC, reader(member))
        for member in sorted(archive.infolist(), key=lambda member: member.filename)
        if not member.is_dir() and _is_image(member.filename)
    ]


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not any(map(_is_hidden, path.parts))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") and name != ".."


def _prepare(config: DataConfig, files: list[_File], resolution: int, channels: int) -> np.ndarray:
    listing = json.dumps([(file.name, file.size, file.stamp) for file in files])
    key = {
        "path": str(Path(config.path).expanduser().resolve()),
        "num_files": len(files),
        "sha256_of_names_sizes_stamps": hashlib.sha256(listing.encode()).hexdigest(),
        "resolution": resolution,
        "channels": channels,
        "crop": config.crop,
        "crop_size": config.crop_size,
        "max_bad_fraction": config.max_bad_fraction,  # so that a hit keeps within it, too
    }

    def decode(file: _File) -> np.ndarray | str:
        """The image, or why there is none."""
        try:
            return decoding.to_array(
                decoding.open_image(io.BytesIO(_read(file))),
                resolution=resolution,
                channels=channels,
                crop=config.crop,
                crop_size=config.crop_size,
            )
        except _UNREADABLE as error:
            return errors.one_line(error) or type(error).__name__

    bad: dict[str, str] = {}
    images = cache.prepared(
        key,
        len(files),
        (resolution, resolution, channels),
        _images(config, files, decode, bad),
        label=PurePosixPath(config.path).stem,
        notes={"skipped": bad},
    )
    if bad:
        progress.say(f"{config.path}: {len(images)} images, {len(bad)} skipped")
    return images


def _images(
    config: DataConfig,
    files: list[_File],
    decode: Callable[[_File], np.ndarray | str],
    bad: dict[str, str],
) -> Iterator[np.ndarray | None]:
    """The images in order, None for a bad one, which is entered in `bad`."""
    num_bad_allowed = config.max_bad_fraction * len(files)
    for num_tried, (file, result) in enumerate(parallel.in_order(decode, files), start=1):
        if isinstance(result, str):
            progress.say(f"skipped {file.name}: {result}")
            bad[file.name] = result
            if len(bad) > max(num_bad_allowed, _NUM_BAD_SEEN):
                raise _too_many(config, bad, num_tried)
            yield None
        else:
            yield result
    if len(bad) > num_bad_allowed or len(bad) == len(files):
        raise _too_many(config, bad, len(files))


def _too_many(config: DataConfig, bad: dict[str, str], num_tried: int) -> ConfigError:
    named = [f"{name} ({cause})" for name, cause in list(bad.items())[:_NUM_BAD_NAMED]]
    dots = ["..."] if len(bad) > _NUM_BAD_NAMED else []
    return ConfigError(
        f"{_field(config)}: {len(bad)} of the {num_tried} files tried cannot be used, "
        f"config.data.max_bad_fraction = {config.max_bad_fraction} is allowed: "
        + ", ".join(named + dots)
    )


def _field(config: DataConfig) -> str:
    return f"config.data.path = {config.path!r}"
