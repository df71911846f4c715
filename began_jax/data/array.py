"""Images of an .npy or .npz file."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from began_jax import errors
from began_jax.config import ConfigError
from began_jax.data import cache, decoding
from began_jax.schema import DataConfig


def load(config: DataConfig, *, resolution: int, channels: int) -> np.ndarray:
    """The uint8 (N, H, W, channels) array in `config.path`, as squares of `resolution`.

    An .npy is memory-mapped. Of an .npz `config.name` says which array, unless it has only one; it
    is decompressed into memory at every start. Where H = W = resolution and the crop changes
    nothing, the array is used as it is; else it is prepared once by `decoding.to_array`.

    Returns:
      uint8 (N, resolution, resolution, channels).

    Raises:
      ConfigError: one line: no such file or array, damaged, another type, rank or number of
        channels, images smaller than `resolution`, or that the crop does not fit.
    """
    path = Path(config.path).expanduser()
    images = read(config, resolution=resolution, channels=channels)
    whole = config.crop == "center" and config.crop_size in (0, resolution)
    if whole and images.shape[1:3] == (resolution, resolution) and images.flags.c_contiguous:
        return images

    def square(image: np.ndarray) -> np.ndarray:
        return decoding.to_array(
            decoding.to_image(image),
            resolution=resolution,
            channels=channels,
            crop=config.crop,
            crop_size=config.crop_size,
        )

    def squares() -> Iterator[np.ndarray]:
        for image in images:
            yield square(image)

    try:
        square(images[0])
    except ValueError as error:  # all are of one size, so none would fit
        raise ConfigError(f"{_field(config)}: {error}") from error
    status = path.stat()
    key = {
        "path": str(path.resolve()),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "name": config.name,
        "resolution": resolution,
        "channels": channels,
        "crop": config.crop,
        "crop_size": config.crop_size,
    }
    shape = (resolution, resolution, channels)
    return cache.prepared(key, len(images), shape, squares(), label=path.stem)


def read(config: DataConfig, *, resolution: int, channels: int) -> np.ndarray:
    """The array in `config.path` as it is, uint8 (N, H, W, channels); raises as `load` does."""
    images = _read(config, Path(config.path).expanduser())
    _check(config, images, resolution, channels)
    return images


def _read(config: DataConfig, path: Path) -> np.ndarray:
    if not path.is_file():
        raise ConfigError(f"{_field(config)}: no such file; an .npy or .npz is needed")
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return _member(config, loaded)
    except ConfigError:
        raise
    except Exception as error:  # what NumPy's and zipfile's parsers raise is no closed list
        cause = errors.one_line(error)
        raise ConfigError(f"{_field(config)}: no undamaged .npy or .npz ({cause})") from error


def _member(config: DataConfig, arrays: np.lib.npyio.NpzFile) -> np.ndarray:
    name = config.name or (arrays.files[0] if len(arrays.files) == 1 else "")
    if name not in arrays.files:
        raise ConfigError(
            f"config.data.name = {config.name!r}: one of the arrays of {config.path} is needed; "
            f"it has {', '.join(arrays.files) or 'none'}"
        )
    return np.asarray(arrays[name])


def _check(config: DataConfig, images: np.ndarray, resolution: int, channels: int) -> None:
    shape = images.shape
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or shape[0] < 1
        or shape[3] != channels
        or min(shape[1:3]) < resolution
    ):
        raise ConfigError(
            f"{_field(config)}: {images.dtype} {shape}; uint8 (N, H, W, {channels}) is needed, "
            f"H and W {resolution} or more"
        )


def _field(config: DataConfig) -> str:
    return f"config.data.path = {config.path!r}"
