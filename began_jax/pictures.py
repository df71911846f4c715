"""The modes that turn a checkpoint into pictures, written under the run's folder or to --out."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from began_jax import config as config_lib
from began_jax import data, errors, files, generate, grids, inversion, pixels, restoring
from began_jax.config import Config
from began_jax.data import decoding

_FRAME_MILLISECONDS = 400
_CAPTION_LINES = 5
_SMALLEST_CELL = 64  # pixels; smaller images are enlarged in a captioned figure
_LINE = 12  # pixels, of Pillow's own font


def sample(
    workdir: Path,
    out: Path | None = None,
    *,
    step: int | None = None,
    num: int = 64,
    seed: int,
    average: bool,
) -> Path:
    """`num` samples as one grid (out ends in .png), one array (.npy) or a folder of PNGs."""
    config, state = restoring.restore(workdir, step)
    out = out or workdir / "sample" / f"{int(state.step):08d}.png"
    blocks = generate.samples(config, state, num, seed=seed, average=average)
    if out.suffix == ".npy":
        m = config.model
        _write_array(out, (num, m.resolution, m.resolution, m.channels), blocks)
    elif out.suffix == ".png":
        grids.save_png(out, grids.grid(np.concatenate(list(blocks))))
    elif out.suffix:
        raise errors.UserError(f"--out={out}: a .png, a .npy or a folder without a suffix")
    else:
        for i, image in enumerate(image for block in blocks for image in block):
            grids.save_png(out / f"{i:06d}.png", image)
    return out


def reconstruct(
    workdir: Path,
    out: Path | None = None,
    *,
    step: int | None = None,
    images: str | None = None,
    num: int = 32,
) -> Path:
    """D(x) beside x: pairs of columns; of given images or the run's own."""
    config, state = restoring.restore(workdir, step)
    x = _images(config, images, num)
    out = _png(out or workdir / "reconstruct" / f"{int(state.step):08d}.png")
    _save_rows(out, [x, pixels.to_uint8(generate.reconstructed(config, state, x))])
    return out


def invert(
    workdir: Path,
    out: Path | None = None,
    *,
    step: int | None = None,
    images: str | None = None,
    num: int = 16,
    seed: int,
    average: bool,
) -> Path:
    """G(z) beside x, z found by Adam; z and the residuals in an .npz beside the picture."""
    config, state = restoring.restore(workdir, step)
    x = _images(config, images, num)
    out = _png(out or workdir / "invert" / f"{int(state.step):08d}.png")
    found = inversion.invert(config, state, x, seed=seed, average=average)
    _save_rows(out, [x, found.images])
    files.write_npz(out.with_suffix(".npz"), z=found.z, residuals=found.residuals)
    for i, residual in enumerate(found.residuals):
        print(f"image {i}: mean |x - G(z)| = {residual:.4f}")
    return out


def interpolate(
    workdir: Path,
    out: Path | None = None,
    *,
    step: int | None = None,
    between: str,
    images: str | None = None,
    num: int = 8,
    columns: int,
    seed: int,
    spherical: bool,
    average: bool,
) -> Path:
    """Rows from one image to another: between random latents, given images or mirror images.

    Between images the first and the last column are the images themselves.
    """
    config, state = restoring.restore(workdir, step)
    out = _png(out or workdir / "interpolate" / f"{int(state.step):08d}-{between}.png")
    ends: list[np.ndarray] = []
    if between == "latents":
        if images is not None:
            raise errors.UserError("--images: --between=latents takes none")
        z = generate.latents(config, seed, range(2 * num))
        a, b = z[0::2], z[1::2]  # row i is the same whatever their number
    else:
        x = _images(config, images, 2 * num if between == "images" else num)
        if between == "images" and len(x) < 2:
            raise errors.UserError(f"--images={images}: two images or more are needed")
        even = x[: len(x) // 2 * 2]  # the last of an odd number has no partner
        ends = [even[0::2], even[1::2]] if between == "images" else [x, x[:, :, ::-1]]
        found = inversion.invert(config, state, np.concatenate(ends), seed=seed, average=average)
        a, b = np.split(found.z, 2)
    z = generate.interpolate(a, b, columns, spherical=spherical)
    shown = generate.from_latents(config, state, z.reshape(-1, z.shape[-1]), average=average)
    rows = shown.reshape(len(z), columns, *shown.shape[1:])
    if ends:
        rows = np.concatenate([ends[0][:, None], rows, ends[1][:, None]], axis=1)
    grids.save_png(out, grids.table(rows))
    return out


def timeline(
    workdir: Path, out: Path | None = None, *, num: int = 8, seed: int, average: bool
) -> Path:
    """A column for each checkpoint: the same latents' samples, and what the run measured there.

    Beside the PNG stands an animation of the columns, a WebP.
    """
    out = _png(out or workdir / "timeline.png")
    records = restoring.records(workdir)
    columns, captions = [], []
    for step in restoring.steps(workdir):
        config, state = restoring.restore(workdir, step)
        blocks = list(generate.samples(config, state, num, seed=seed, average=average))
        columns.append(np.concatenate(blocks))
        captions.append(_caption(step, records))
    if not columns:
        raise errors.UserError(f"{workdir}: no checkpoint is there")
    size = columns[0].shape[2]
    whole = _captioned(grids.table(np.stack(columns, axis=1)), size, captions)
    grids.save_png(out, np.asarray(whole))
    frames = [
        _captioned(grids.grid(column), size, [caption])
        for column, caption in zip(columns, captions, strict=True)
    ]
    with files.replacing(out.with_suffix(".webp")) as temporary:
        frames[0].save(
            temporary,
            format="WEBP",
            save_all=True,
            append_images=frames[1:],
            duration=_FRAME_MILLISECONDS,
            loop=0,
            quality=90,
        )
    return out


def _images(config: Config, given: str | None, num: int) -> np.ndarray:
    """Up to `num` images, at the run's size: of the run's data, a folder, zip, array or files.

    Raises:
      UserError: one that cannot be read or used, or none.
    """
    resolution, channels = config.model.resolution, config.model.channels

    def load(source: config_lib.DataConfig) -> np.ndarray:
        return np.asarray(data.load(source, resolution=resolution, channels=channels)[:num])

    if given is None:
        return load(config.data)
    path = Path(given)
    if path.is_dir() or path.suffix == ".zip":
        return load(_source(config, "folder", given))
    if path.suffix in (".npy", ".npz"):
        return load(_source(config, "array", given))
    return np.stack([_read(config, name) for name in given.split(",")[:num]])


def _read(config: Config, name: str) -> np.ndarray:
    try:
        return decoding.to_array(
            decoding.open_image(name),
            resolution=config.model.resolution,
            channels=config.model.channels,
            crop=config.data.crop,
            crop_size=config.data.crop_size,
        )
    except (OSError, ValueError) as error:
        raise errors.UserError(f"--images: {name}: {errors.one_line(error)}") from error


def _source(config: Config, source: str, path: str) -> config_lib.DataConfig:
    return dataclasses.replace(config.data, source=source, path=path, name="")


def _png(path: Path) -> Path:
    if path.suffix != ".png":
        raise errors.UserError(f"--out={path}: a .png is needed")
    return path


def _write_array(path: Path, shape: tuple[int, ...], blocks: Iterator[np.ndarray]) -> None:
    """Writes blocks as they come, so that any number fits in memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary:
        array = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
        first = 0
        for block in blocks:
            array[first : first + len(block)] = block
            first += len(block)
        array.flush()


def _save_rows(path: Path, columns: Sequence[np.ndarray]) -> None:
    """Groups of images side by side, each group (one of every column) a cell of a square grid."""
    groups = np.concatenate(columns, axis=2)
    grids.save_png(path, grids.grid(groups))


def _captioned(picture: np.ndarray, size: int, captions: Sequence[str]) -> Image.Image:
    """A picture of images of `size` pixels with texts under its first columns, an RGB image."""
    factor = -(-_SMALLEST_CELL // size)
    enlarged = decoding.to_image(picture.repeat(factor, axis=0).repeat(factor, axis=1))
    canvas = Image.new(
        "RGB", (enlarged.width, enlarged.height + _CAPTION_LINES * _LINE + 4), "white"
    )
    canvas.paste(enlarged, (0, 0))
    draw = ImageDraw.Draw(canvas)
    for i, text in enumerate(captions):
        place = (i * size * factor + 2, enlarged.height + 1)
        draw.multiline_text(place, text, fill="black", spacing=1, font_size=10)
    return canvas


def _caption(step: int, records: Sequence[dict[str, Any]]) -> str:
    """The step and the record before it; every record is a mean since the one before."""
    past = [record for record in records if record["step"] <= step]
    if not past:
        return str(step)
    last = past[-1]
    names = {"M": "m_global", "L(x)": "loss_real", "L(G)": "loss_fake", "k": "k"}
    return "\n".join([str(step), *(f"{name} {last[key]:.4f}" for name, key in names.items())])
