"""The modes that turn a checkpoint into pictures, written under the run's folder or to --out.

Each returns the files that it wrote. Below the run's folder a file's name tells its step, what it
shows and what was asked for otherwise than by default; made again, it is replaced.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from began_jax import (
    errors,
    files,
    generate,
    grids,
    inputs,
    inversion,
    objectives,
    pixels,
    restoring,
    run_folder,
)
from began_jax.data import decoding
from began_jax.schema import Config
from began_jax.train_state import TrainState

# How many images or rows a mode shows, where it is not told.
_SAMPLES, _RECONSTRUCTIONS, _INVERSIONS, _ROWS, _OF_TIMELINE = 64, 32, 16, 8, 8
_COLUMNS = 9  # of an interpolation
_FRAME_MILLISECONDS = 400
_CAPTION_LINES = 5
_GAP = 2  # pixels, between pairs
_LINE = 12  # pixels, of Pillow's own font


def sample(
    workdir: Path,
    out: Path | None = None,
    *,
    step: int | None = None,
    num: int | None = None,
    seed: int,
    average: bool,
) -> list[Path]:
    """`num` (64) samples as one grid (out ends in .png), one array (.npy) or a folder of PNGs."""
    config, state = restoring.restore(workdir, step)
    out = out or _default_out(workdir, "sample", state, num=num, seed=seed, average=average)
    num = num or _SAMPLES
    blocks = generate.samples(config, state, num, seed=seed, average=average)
    if out.suffix == ".npy":
        m = config.model
        _write_array(out, (num, m.resolution, m.resolution, m.channels), blocks)
    elif out.suffix == ".png":
        grid = grids.grid(np.concatenate(list(blocks)))
        grids.save_png(out, grids.enlarged(grid, config.model.resolution))
    elif out.suffix:
        raise errors.UserError(f"--out={out}: a .png, a .npy or a folder without a suffix")
    else:
        if out.exists() and any(out.iterdir()):
            raise errors.UserError(f"--out={out}: it is not empty")
        for i, image in enumerate(image for block in blocks for image in block):
            grids.save_png(out / f"{i:06d}.png", image)
    return [out]


def reconstruct(
    workdir: Path,
    out: Path | None = None,
    *,
    step: int | None = None,
    images: str | None = None,
    num: int | None = None,
) -> list[Path]:
    """D(x) beside x; of given images, or of 32 of the run's own."""
    config, state = restoring.restore(workdir, step)
    if not objectives.of(config).is_auto_encoder:
        name = config.objective.name
        raise errors.UserError(f"{workdir}: its D ({name!r}) is a critic and reconstructs nothing")
    out = _png(out or _default_out(workdir, "reconstruct", state, inputs.label(images), num=num))
    inputs.check_outputs(images, out)
    _, x = _images(workdir, config, images, num, _RECONSTRUCTIONS)
    _save_beside(out, [x, pixels.to_uint8(generate.reconstructed(config, state, x))])
    return [out]


def invert(
    workdir: Path,
    out: Path | None = None,
    *,
    step: int | None = None,
    images: str | None = None,
    num: int | None = None,
    seed: int,
    average: bool,
) -> list[Path]:
    """G(z) beside x, z found by Adam; z and the residuals in <picture>-latents.npz.

    Of given images, or of 16 of the run's own. Where D's encoder was trained to invert G (objective
    "began_cs"), G(Enc(x)) stands between the two.
    """
    config, state = restoring.restore(workdir, step)
    asked = {"num": num, "seed": seed, "average": average}
    out = _png(out or _default_out(workdir, "invert", state, inputs.label(images), **asked))
    latents = out.with_name(f"{out.stem}-latents.npz")
    _check_companion(out, latents)
    inputs.check_outputs(images, out, latents)
    names, x = _images(workdir, config, images, num, _INVERSIONS)
    found = inversion.invert(config, state, x, seed=seed, average=average)
    shown, arrays = [x, found.images], {"z": found.z, "residuals": found.residuals}
    told = [f"mean |x - G(z)| = {residual:.4f}" for residual in found.residuals]
    if config.objective.name == "began_cs":
        encoded = inversion.by_encoder(config, state, x, average=average)
        shown.insert(1, encoded.images)
        arrays.update(z_encoded=encoded.z, residuals_encoded=encoded.residuals)
        told = [f"{text}, by Enc {r:.4f}" for text, r in zip(told, encoded.residuals, strict=True)]
    _save_beside(out, shown)
    files.write_npz(latents, names=np.array(names), **arrays)
    for name, text in zip(names, told, strict=True):
        print(f"{name}: {text}")
    return [out, latents]


def interpolate(
    workdir: Path,
    out: Path | None = None,
    *,
    step: int | None = None,
    between: str,
    images: str | None = None,
    num: int | None = None,
    columns: int | None = None,
    seed: int,
    spherical: bool,
    average: bool,
) -> list[Path]:
    """Rows from one image to another: between random latents, given images or mirror images.

    Between images the first and the last column are the images themselves. 8 rows, or as many as
    the given images make.
    """
    config, state = restoring.restore(workdir, step)
    kind = f"{between}-spherical" if spherical else between
    asked = {"num": num, "columns": columns, "seed": seed, "average": average}
    out = _png(
        out or _default_out(workdir, "interpolate", state, kind, inputs.label(images), **asked)
    )
    columns = columns or _COLUMNS
    ends: list[np.ndarray] = []
    if between == "latents":
        if images is not None:
            raise errors.UserError("--images: --between=latents takes none")
        num = num or _ROWS
        z = generate.latents(config, seed, range(2 * num))
        a, b = z[0::2], z[1::2]  # row i is the same whatever their number
    else:
        inputs.check_outputs(images, out)
        an_end = 2 if between == "images" else 1
        _, x = _images(workdir, config, images, num and num * an_end, _ROWS * an_end)
        if len(x) < an_end:
            raise errors.UserError(f"--images={images}: two images or more are needed")
        even = x[: len(x) // 2 * 2]  # the last of an odd number has no partner
        ends = [even[0::2], even[1::2]] if between == "images" else [x, x[:, :, ::-1]]
        # Partners side by side, so that a row is the same whatever their number.
        partners = np.stack(ends, axis=1).reshape(-1, *x.shape[1:])
        found = inversion.invert(config, state, partners, seed=seed, average=average)
        a, b = found.z[0::2], found.z[1::2]
    z = generate.interpolate(a, b, columns, spherical=spherical)
    shown = generate.from_latents(config, state, z.reshape(-1, z.shape[-1]), average=average)
    rows = shown.reshape(len(z), columns, *shown.shape[1:])
    table = grids.table(rows)
    if ends:
        table = grids.beside([grids.table(ends[0][:, None]), table, grids.table(ends[1][:, None])])
    grids.save_png(out, grids.enlarged(table, config.model.resolution))
    return [out]


def timeline(
    workdir: Path, out: Path | None = None, *, num: int | None = None, seed: int, average: bool
) -> list[Path]:
    """A column for each checkpoint: the same latents' samples, and what the run measured there.

    Beside the PNG stands an animation of the columns, a WebP.
    """
    name = _name("timeline", num=num, seed=seed, average=average)
    out = _png(out or workdir / f"{name}.png")
    animation = out.with_suffix(".webp")
    _check_companion(out, animation)
    records = restoring.records(workdir)
    columns, captions = [], []
    for config, state in restoring.every_state(workdir):
        blocks = generate.samples(config, state, num or _OF_TIMELINE, seed=seed, average=average)
        columns.append(np.concatenate(list(blocks)))
        over = config.train.checkpoint_every_steps
        captions.append(_caption(int(state.step), records, over))
    size = columns[0].shape[2]
    whole = _captioned(grids.table(np.stack(columns, axis=1)), size, captions)
    grids.save_png(out, np.asarray(whole))
    frames = [
        _captioned(grids.grid(column), size, [caption])
        for column, caption in zip(columns, captions, strict=True)
    ]
    with files.replacing(animation) as temporary:
        frames[0].save(
            temporary,
            format="WEBP",
            save_all=True,
            append_images=frames[1:],
            duration=_FRAME_MILLISECONDS,
            loop=0,
            quality=90,
        )
    return [out, animation]


def _images(
    workdir: Path, config: Config, given: str | None, num: int | None, num_of_run: int
) -> tuple[list[str], np.ndarray]:
    """Given images, all or the first `num`, else `num` of the run's own; their names first."""
    if given is None:
        return inputs.of_run(workdir, config, num or num_of_run)
    return inputs.given(config, given, num)


def _default_out(workdir: Path, mode: str, state: TrainState, *parts: str, **asked: Any) -> Path:
    run_folder.check_links(workdir)
    return workdir / mode / f"{_name(f'{int(state.step):08d}', *parts, **asked)}.png"


def _name(*parts: str, average: bool = True, **numbers: int | None) -> str:
    """What tells pictures apart; numbers that are None or 0 are the default's."""
    told = [f"{name}{number}" for name, number in numbers.items() if number]
    return "-".join(filter(None, [*parts, *told, "" if average else "raw"]))


def _png(path: Path) -> Path:
    if path.suffix != ".png":
        raise errors.UserError(f"--out={path}: a .png is needed")
    files.check_no_link(path)
    return path


def _check_companion(out: Path, companion: Path) -> None:
    """Raise UserError if a file that --out does not name would be replaced, unless `out` is too."""
    if companion.exists() and not out.exists():
        raise errors.UserError(
            f"{companion}: must not exist without {out.name}. Move it or choose another --out."
        )


def _write_array(path: Path, shape: tuple[int, ...], blocks: Iterator[np.ndarray]) -> None:
    """Writes blocks as they come, so that any number fits in memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # By no memory map, under which a full disk would end the process.
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block).tobytes())


def _save_beside(path: Path, columns: Sequence[np.ndarray]) -> None:
    """Each image of the first with its partners of the others to the right, in a grid."""
    rows = grids.grid(np.concatenate(columns, axis=2), gap=_GAP)
    grids.save_png(path, grids.enlarged(rows, columns[0].shape[1]))


def _captioned(picture: np.ndarray, size: int, captions: Sequence[str]) -> Image.Image:
    """A picture of images of `size` pixels with texts under its first columns, an RGB image."""
    enlarged = decoding.to_image(grids.enlarged(picture, size))
    width = enlarged.width // (picture.shape[1] // size)
    canvas = Image.new(
        "RGB", (enlarged.width, enlarged.height + _CAPTION_LINES * _LINE + 4), "white"
    )
    canvas.paste(enlarged, (0, 0))
    draw = ImageDraw.Draw(canvas)
    for i, text in enumerate(captions):
        place = (i * width + 2, enlarged.height + 1)
        draw.multiline_text(place, text, fill="black", spacing=1, font_size=10)
    return canvas


def _caption(step: int, records: Sequence[dict[str, Any]], over: int) -> str:
    """The step, the means over so many steps up to it, and the last recorded k."""
    lines = [str(step)]
    for name, key in {"M": "m_global", "L(x)": "loss_real", "L(G)": "loss_fake"}.items():
        mean, _ = restoring.recorded_mean(records, key, step, over)
        if mean is not None:
            lines.append(f"{name} {mean:.4f}")
    k = [record["k"] for record in records if record["step"] <= step]
    return "\n".join([*lines, *(f"k {value:.4f}" for value in k[-1:])])
