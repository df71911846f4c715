"""The images that a mode looks at: some of the run's own data, or the user's."""

import dataclasses
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image

from began_jax import errors, restoring
from began_jax.config import ConfigError
from began_jax.data import array, decoding, folder, order
from began_jax.schema import Config


def of_run(workdir: Path, config: Config, num: int) -> tuple[list[str], np.ndarray]:
    """`num` of the run's images (all, where there are fewer), always the same ones.

    Returns:
      Their names, and uint8 (N, R, R, C).

    Raises:
      ConfigError: they cannot be loaded, or are not what the run was trained on.
    """
    images = restoring.load_data(workdir, config)
    indices = order.subset(len(images), num)
    return [f"image {i} of the data" for i in indices], images[indices]


def paths(value: str) -> list[Path]:
    """The paths named in --images, absolute."""
    return [Path(name).expanduser().resolve() for name in value.split(",") if name]


def label(value: str | None) -> str:
    """Return a name for the images in --images: that of the first path and a hash of all paths."""
    named = paths(value or "")
    if not named:
        return ""
    digest = hashlib.sha256("\n".join(map(str, named)).encode()).hexdigest()
    first = named[0].stem if named[0].is_file() else named[0].name
    return f"{first}-{digest[:6]}"


def check_outputs(value: str | None, *written: Path) -> None:
    """Raise UserError if a file to be written is one of the images in --images."""
    for path in paths(value or ""):
        for out in (out.resolve() for out in written):
            if path == out or (path.is_dir() and out.exists() and out.is_relative_to(path)):
                raise errors.UserError(f"--out: {out} is one of --images")


def given(config: Config, value: str, num: int | None) -> tuple[list[str], np.ndarray]:
    """The first `num` images (None: all) of a folder, a zip, an .npy or .npz, or of files.

    An image of the run's size is taken as it is, another one cropped and scaled as the run's data
    are.

    Args:
      value: the path, or the files' paths with commas between.

    Returns:
      Their names, and uint8 (N, R, R, C).

    Raises:
      UserError: one that cannot be read or used, or none.
    """
    path = Path(value).expanduser()
    try:
        if path.is_dir() or path.suffix == ".zip":
            named = list(_of_folder(config, value, num))
        elif path.suffix in (".npy", ".npz"):
            source = dataclasses.replace(config.data, path=value, name="")
            m = config.model
            whole = array.read(source, resolution=m.resolution, channels=m.channels)
            named = [
                (f"image {i}", _square(config, decoding.to_image(one)))
                for i, one in enumerate(whole[:num])
            ]
        else:
            names = [name for name in value.split(",") if name][:num]
            named = [(name, _decoded(config, name, Path(name).expanduser())) for name in names]
    except ConfigError as error:  # of sources, which name the setting of a training run
        fields = rf"config\.data\.path = {re.escape(repr(value))}|config\.data\.name = ''"
        text = re.sub(fields, lambda _: f"--images={value}", str(error))
        raise errors.UserError(text) from error
    except ValueError as error:
        raise errors.UserError(f"--images={value}: {error}") from error
    if not named:
        raise errors.UserError(f"--images={value}: no image is named")
    return [name for name, _ in named], np.stack([image for _, image in named])


def _of_folder(config: Config, value: str, num: int | None) -> Iterator[tuple[str, np.ndarray]]:
    source = dataclasses.replace(config.data, path=value)
    for name, content in folder.contents(source, num):
        yield name, _decoded(config, f"{value}: {name}", io.BytesIO(content))


def _decoded(config: Config, name: str, file: Path | io.BytesIO) -> np.ndarray:
    try:
        return _square(config, decoding.open_image(file))
    except (OSError, ValueError) as error:
        # The system's own text has the path once more, and a number.
        reason = getattr(error, "strerror", None) or errors.one_line(error)
        raise errors.UserError(f"--images: {name}: {reason}") from error


def _square(config: Config, image: PIL.Image.Image) -> np.ndarray:
    m, d = config.model, config.data
    as_it_is = image.size == (m.resolution, m.resolution)
    return decoding.to_array(
        image,
        resolution=m.resolution,
        channels=m.channels,
        crop="center" if as_it_is else d.crop,
        crop_size=0 if as_it_is else d.crop_size,
    )
