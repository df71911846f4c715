"""Random configs and random image files: each is taken, or refused with its cause in a line.

    python -m tests.faults.fuzz --configs=1000 --images=300 --seed=0 --out=fuzz.json

A config is that of configs/demo.py with a few fields set to values of any kind, missing, or too
many; where it is taken, its state is traced too unless that would be a giant's. An image file is
one that Pillow wrote, in one of many modes and kinds, and then cut, garbled, renamed, emptied, with
a false size in its header, a link out of its folder, or in a zip under a name that leads out of it.
Hypothesis makes the choices. Counts what came of each; ends with 1 if anything had a traceback,
took long (it is stopped then), wrote outside the cache or took much memory.
"""

import argparse
import collections
import contextlib
import io
import json
import random
import resource
import signal
import string
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis
import jax
import numpy as np
from hypothesis import strategies as st
from PIL import Image

from began_jax import config as config_lib
from began_jax import errors, train_state
from began_jax.data import folder
from benchmarks import bench
from configs import demo

_LONGEST = 20.0  # seconds for one
_MOST_MEMORY = 3 << 30  # bytes, for the process
_SMALL = {"resolution": 64, "n": 64, "n_h": 256, "n_z": 256, "repeats": 4}


def main() -> int:
    """Fuzzes both, prints and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", type=int, default=1000)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report = {
        "machine": bench.machine(),
        "seed": options.seed,
        "configs": fuzz(options.configs, options.seed, one_config),
        "images": fuzz(options.images, options.seed, one_image),
        "peak_memory_bytes": _peak_memory(),
    }
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    failures = report["configs"]["failures"] + report["images"]["failures"]
    return int(bool(failures) or report["peak_memory_bytes"] > _MOST_MEMORY)


def fuzz(num: int, seed: int, one: Callable[[random.Random], str]) -> dict[str, Any]:
    """Does `one` so often: how many outcomes of each kind, and what failed."""
    counts: collections.Counter[str] = collections.Counter()
    failures = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=num,
        deadline=None,
        derandomize=False,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.randoms(use_true_random=False))
    def each(chance: random.Random) -> None:
        i = counts.total()
        try:
            with _time_limit():
                outcome = one(chance)
        except Exception as error:
            if type(error).__module__.startswith("hypothesis"):  # its own way to end an example
                raise
            outcome = "failed"
            failures.append(f"{i}: {type(error).__name__}: {errors.one_line(error)[:300]}")
        counts[outcome] += 1

    each()
    return {"num": counts.total(), "outcomes": dict(counts.most_common()), "failures": failures}


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"it took more than {_LONGEST} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, _LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def one_config(chance: random.Random) -> str:
    """Parses a random config."""
    values = demo.get_config().to_dict()
    for _ in range(chance.randint(1, 3)):
        group = chance.choice([name for name, value in values.items() if isinstance(value, dict)])
        inside = values[group]
        name = chance.choice(list(inside)) if inside else "name"
        kind = chance.random()
        if kind < 0.1:
            inside.pop(name, None)
        elif kind < 0.2:
            inside[_word(chance)] = _value(chance)
        elif kind < 0.25:
            values[group] = _value(chance)
            break
        elif kind < 0.8 and name in inside:
            inside[name] = _near(inside[name], chance)
        else:
            inside[name] = _value(chance)
    try:
        config = config_lib.parse(values)
    except config_lib.ConfigError as error:
        for line in str(error).splitlines():
            if not line.startswith("config"):
                raise AssertionError(f"no field is named in {line!r}") from error
        return "refused"
    if any(getattr(config.model, name) > most for name, most in _SMALL.items()):
        return "taken, a giant"
    jax.eval_shape(lambda: train_state.init(config))
    return "taken"


def _value(chance: random.Random) -> Any:
    numbers = [0, 1, -1, 2, 3, 8, 16, 64, 1000, 2**31, 2**63, 10**40, -(10**9)]
    floats = [0.0, -0.0, 0.5, 1.0, 1e-300, 1e300, float("inf"), -float("inf"), float("nan")]
    others = [None, True, False, [], {}, (1, 2), [3], {"a": 1}, b"bytes", 1j, object()]
    words = ["", " ", "winograd", "stop", "folder", "../..", "a\nb", "\0", _word(chance)]
    return chance.choice([chance.choice(kind) for kind in (numbers, floats, others, words)])


def _near(value: Any, chance: random.Random) -> Any:
    """What may well be allowed."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return chance.choice([value * 2, value // 2, value + 1, 1, 16, 1000])
    if isinstance(value, float):
        return value * chance.choice([0, 0.5, 1, 1.3, 10])
    return value


def _word(chance: random.Random) -> str:
    return "".join(chance.choices(string.printable + "äß漢😀", k=chance.randint(1, 12)))


def one_image(chance: random.Random) -> str:
    """Loads a folder or a zip of one good image and a random one."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        images = root / "images"
        images.mkdir()
        Image.new("RGB", (40, 30), "red").save(images / "0.png")
        kind, content = _image(chance)
        action, content = _garbled(chance, content)
        suffix = chance.choice([kind, "png", "jpg", "gif", "tif", "webp", "bmp", "ppm"])
        if chance.random() < 0.2:
            _zip(images, chance, suffix, content)
            path = images.with_suffix(".zip")
        elif chance.random() < 0.1:
            action = "link"
            (root / "outside.png").write_bytes(content)
            (images / f"1.{suffix}").symlink_to(root / "outside.png")
            path = images
        else:
            (images / f"1.{suffix}").write_bytes(content)
            path = images
        before = _files(root)
        outcome = _load(path, root / "cache")
        written = _files(root) - before
        outside = [str(one) for one in written if not one.is_relative_to(root / "cache")]
        if outside:
            raise AssertionError(f"written outside the cache: {outside}")
        return f"{action}: {outcome}"


def _files(root: Path) -> set[Path]:
    """What lies below it, and where a zip's names might lead."""
    elsewhere = (Path("/"), root.parent, Path.cwd(), Path.cwd().parent)
    return {*root.rglob("*"), *(path for place in elsewhere for path in place.glob("1.*"))}


def _load(path: Path, cache: Path) -> str:
    values = demo.get_config().to_dict()
    values["data"].update(source="folder", path=str(path), max_bad_fraction=1.0)
    config = config_lib.parse(values).data
    with _environment(cache):
        try:
            images = folder.load(config, resolution=32, channels=3)
        except errors.UserError as error:
            if len(str(error).splitlines()) != 1:
                raise AssertionError(f"several lines: {error}") from error
            return "refused"
    return "used" if len(images) == 2 else "not used"


def _image(chance: random.Random) -> tuple[str, bytes]:
    """A file that Pillow writes: its suffix and content."""
    mode, kind = chance.choice(
        [
            *(("RGB", "png"), ("RGBA", "png"), ("L", "png"), ("I;16", "png"), ("1", "png")),
            *(("P", "png"), ("RGB", "jpeg"), ("CMYK", "jpeg"), ("L", "jpeg"), ("RGB", "gif")),
            *(("CMYK", "tiff"), ("F", "tiff"), ("I;16", "tiff"), ("RGBA", "webp")),
            *(("RGB", "bmp"), ("RGB", "ppm")),
        ]
    )
    side = chance.choice([1, 2, 31, 32, 100])
    generator = np.random.default_rng(chance.randrange(2**32))
    if mode in ("I;16", "F"):
        dtype = np.uint16 if mode == "I;16" else np.float32
        image = Image.fromarray((generator.random((side, side)) * 60000).astype(dtype))
    else:
        pixels = generator.integers(0, 256, (side, side, 3), np.uint8)
        image = Image.fromarray(pixels).convert(mode)
    options: dict[str, Any] = {}
    if kind in ("gif", "webp") and chance.random() < 0.5:
        options = {"save_all": True, "append_images": [image] * 5}
    if kind == "jpeg" and chance.random() < 0.5:  # an EXIF block of any bytes, as large as may be
        options = {"exif": b"Exif\0\0II*\0" + generator.bytes(60_000)}
    file = io.BytesIO()
    image.save(file, kind, **options)
    return kind, file.getvalue()


def _garbled(chance: random.Random, content: bytes) -> tuple[str, bytes]:
    action = chance.choice(["whole", "cut", "bytes changed", "empty", "huge size", "noise", "bomb"])
    data = bytearray(content)
    if action == "cut":
        data = data[: chance.randrange(len(data))]
    elif action == "bytes changed":
        for _ in range(chance.randint(1, 30)):
            data[chance.randrange(len(data))] = chance.randrange(256)
    elif action == "empty":
        data = bytearray(chance.choice([0, 1, 1000]))
    elif action == "huge size" and data[:4] == b"\x89PNG":
        data[16:24] = struct.pack(">II", chance.choice([2**31 - 1, 100_000]), 2**31 - 1)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))  # of the header, type and content
    elif action == "huge size":
        action = "whole"
    elif action == "noise":
        generator = np.random.default_rng(chance.randrange(2**32))
        data = bytearray(generator.bytes(chance.randint(1, 3000)))
    elif action == "bomb":  # few bytes, 196 million pixels
        file = io.BytesIO()
        Image.new("1", (14_000, 14_000)).save(file, "png")
        data = bytearray(file.getvalue())
    return action, bytes(data)


def _zip(images: Path, chance: random.Random, suffix: str, content: bytes) -> None:
    names = ["../{}", "/{}", "a/../../{}", "C:\\{}", "{}", "a//{}", "\x01{}", "ü/{}"]
    path = images.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", chance.choice([0, 8, 12, 14])) as archive:
        archive.write(images / "0.png", "0.png")
        archive.writestr(chance.choice(names).format(f"1.{suffix}"), content)
    if chance.random() < 0.3:
        data = bytearray(path.read_bytes())
        for _ in range(chance.randint(1, 10)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)


def _environment(cache: Path) -> Any:
    return mock.patch.dict("os.environ", {"BEGAN_JAX_CACHE": str(cache)})


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
