"""Images of a TFDS data set, by random access and without TensorFlow in the process."""

import difflib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming, read_only_builder
from tensorflow_datasets.core.registered import DatasetNotFoundError

from began_jax import files
from began_jax.config import ConfigError
from began_jax.data import cache, decoding, parallel, tfds_builders
from began_jax.schema import DataConfig

ARRAY_RECORD = "array_record"  # the format that can be read by index


def load(config: DataConfig, *, resolution: int, channels: int) -> np.ndarray:
    """Every image of `config.name`'s `config.split`, in the order of the prepared files.

    A set that TFDS prepared as array_record under $TFDS_DATA_DIR (~/tensorflow_datasets where that
    is not set) is read from there. `tfds_builders.BUILDERS` names the sets that are prepared here
    otherwise, in the project's cache. Images are cropped and resized by `decoding.to_array`, once:
    the result is cached. MNIST's 28×28 become 32×32 by that same resize, not by padding.

    Returns:
      uint8 (N, resolution, resolution, channels), memory-mapped.

    Raises:
      ConfigError: if the set is unknown, not prepared or not readable by index, if it has no such
        split or no images, or if a file of it cannot be downloaded; says what to do.
    """
    builder = _find(config.name)
    feature = _image_feature(config.name, builder.info)
    num_images = _num_images(config, builder.info)
    key = {
        "name": builder.info.full_name,  # with the version
        "split": config.split,
        "files": [
            (path.name, path.stat().st_size) for path in sorted(Path(builder.data_dir).iterdir())
        ],
        "crop": config.crop,
        "crop_size": config.crop_size,
    }

    def decode(numbered: tuple[int, bytes]) -> np.ndarray:
        index, encoded = numbered
        try:
            return decoding.to_array(
                decoding.open_image(io.BytesIO(encoded)),
                resolution=resolution,
                channels=channels,
                crop=config.crop,
                crop_size=config.crop_size,
            )
        except ValueError as error:
            raise ConfigError(
                f"config.data.name = {config.name!r}: image {index} of {config.split!r}: {error}"
            ) from error

    encoded = _encoded_images(builder, config.split, feature)
    return cache.prepared(
        key,
        num_images,
        (resolution, resolution, channels),
        (image for _, image in parallel.in_order(decode, enumerate(encoded))),
        label=f"{config.name} {config.split}",
    )


def tfds_dir() -> Path:
    """Where TFDS itself prepares data sets; read from the environment at every call."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def own_dir() -> Path:
    """Where `tfds_builders` prepares data sets."""
    return files.cache_dir() / "tfds"


def _find(name: str) -> tfds.core.DatasetBuilder:
    try:
        parsed, _ = naming.parse_builder_name_kwargs(name)
    except ValueError:
        raise ConfigError(
            f"config.data.name = {name!r}: a TFDS name is needed: set, set/config or set:1.0.0"
        ) from None
    try:
        builder = read_only_builder.builder_from_files(name, data_dir=tfds_dir())
    except (DatasetNotFoundError, ImportError):  # its code may need a package that is not here
        builder = None
    formats = (
        {file_format.value for file_format in builder.info.available_file_formats()}
        if builder
        else ()
    )
    if ARRAY_RECORD in formats:
        return builder
    if name in tfds_builders.BUILDERS:
        with files.one_at_a_time(own_dir() / f"{name.replace('/', '-')}.lock"):
            return tfds_builders.prepare(name, own_dir())
    if builder is None:
        raise ConfigError(_not_prepared(name, parsed))
    raise ConfigError(
        f"config.data.name = {name!r}: prepared in {builder.data_dir} as "
        f"{', '.join(sorted(formats))}, which cannot be read by index. Prepare it again, with "
        f"TensorFlow, as {ARRAY_RECORD}:\n  rm -r {builder.data_dir}\n{_commands(name)}"
    )


def _not_prepared(name: str, parsed: naming.DatasetName) -> str:
    if not _is_known(parsed):
        known = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(parsed.name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return (
            f"config.data.name = {name!r}: TFDS {tfds.__version__} has no such data set, and none "
            f"is prepared in {tfds_dir()}{hint}"
        )
    return (
        f"config.data.name = {name!r}: not prepared in {tfds_dir()} ($TFDS_DATA_DIR), and TFDS "
        f"prepares it with TensorFlow only. Once, in an environment of its own (training does "
        f"without):\n{_commands(name)}"
    )


def _is_known(parsed: naming.DatasetName) -> bool:
    if parsed.namespace:  # a community set; to look it up takes the net
        return False
    try:
        tfds.builder_cls(parsed.name)
    except DatasetNotFoundError:
        return False
    except ImportError:  # it exists, but its code needs a package that is not here
        pass
    return True


def _commands(name: str) -> str:
    # Not the command `tfds build`: it imports apache_beam and, with 4.9.10, ends without it.
    return (
        "  python -m venv tfds-env\n"
        "  tfds-env/bin/pip install -r requirements.txt tensorflow-cpu tensorboard\n"
        '  tfds-env/bin/python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', data_dir='{tfds_dir()}', file_format='{ARRAY_RECORD}')"
        '.download_and_prepare()"'
    )


def _image_feature(name: str, info: tfds.core.DatasetInfo) -> tfds.features.Image:
    features = info.features
    known = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    feature = known.get("image")
    # np_dtype: the plain dtype imports TensorFlow where that is installed.
    if not isinstance(feature, tfds.features.Image) or feature.np_dtype != np.uint8:
        raise ConfigError(
            f"config.data.name = {name!r}: needs a feature 'image' of 8 bits; it has "
            + " ".join(repr(features).split())
        )
    return feature


def _num_images(config: DataConfig, info: tfds.core.DatasetInfo) -> int:
    try:
        num_images = info.splits[config.split].num_examples
    except ValueError:
        num_images = 0
    if num_images < 1:  # train[5:2] has -3
        splits = ", ".join(f"{split} ({part.num_examples})" for split, part in info.splits.items())
        raise ConfigError(
            f"config.data.split = {config.split!r}: no images; {config.name} has {splits}, and a "
            "part is written as in train[:1000]"
        )
    return num_images


def _encoded_images(
    builder: tfds.core.DatasetBuilder, split: str, feature: tfds.features.Image
) -> Iterator[bytes]:
    """The image files as they are stored; no other feature is parsed or decoded.

    Pillow then decodes them: TFDS would take OpenCV where that happens to be installed, and its
    pixels differ.
    """
    source: Any = builder.as_data_source(
        split,
        deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
        file_format=ARRAY_RECORD,
    )
    parser = tfds.features.FeaturesDict({"image": feature})
    skip = {"image": tfds.decode.SkipDecoding()}
    for index in range(len(source)):
        yield parser.deserialize_example_np(source[index], decoders=skip)["image"]
