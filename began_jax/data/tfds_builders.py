"""CIFAR-10, MNIST, Fashion-MNIST and CelebA prepared as array_record without TensorFlow.

TFDS's own builders of these four read their archives with `tf.io.gfile` and encode numpy images
with a TensorFlow graph. The builders here take TFDS's download manager, manual directory and
registered addresses and checksums, but open the archives with the standard library and let Pillow
encode what is not encoded yet. Names start with `began_`, so nothing here can be taken for a set
that TFDS prepared itself; keys and split names are TFDS's, and with them the order of the images.
"""

import gzip
import math
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums

from began_jax import errors, progress
from began_jax.config import ConfigError

CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"
CELEBA_ARCHIVE = "img_align_celeba.zip"
CELEBA_PARTITION = "list_eval_partition.txt"  # a line a file: name, then 0, 1 or 2
CELEBA_SPLITS = ("train", "validation", "test")  # what 0, 1 and 2 stand for
CELEBA_FROM_ZIP = (
    "Or read the zip as it is, from wherever it lies: --config.data.source=folder "
    f"--config.data.path={CELEBA_ARCHIVE} --config.data.crop=celeba"
)

Examples = Iterator[tuple[int | str, dict[str, Any]]]


def prepare(name: str, data_dir: Path) -> tfds.core.DatasetBuilder:
    """Returns the ready builder of one of `BUILDERS`, downloading and preparing it the first time.

    Shows TFDS's progress bars while it works. Files are taken from `manual_dir(name, data_dir)`
    where they lie there, from earlier downloads otherwise, and from the net otherwise.

    Raises:
      ConfigError: if a file cannot be had or is not the registered one; says which goes where.
      UserError: if the disk is full or cannot be written to.
    """
    builder = BUILDERS[name](data_dir=data_dir, file_format="array_record")
    if builder.data_path.exists():
        return builder
    files = manual_dir(name, data_dir)
    # Said at once: without a connection TFDS tries again for minutes before it gives up.
    progress.say(f"preparing {name}; files that are already here can be put into {files}")
    settings = tfds.download.DownloadConfig(manual_dir=files)
    try:
        builder.download_and_prepare(download_config=settings)
    except OSError as error:
        # TFDS renames its folder at the end, which fails if another process was there first.
        if not builder.data_path.exists():
            raise errors.UserError(
                f"{data_dir}: {error}; $BEGAN_JAX_CACHE names another place"
            ) from error
    return builder


def manual_dir(name: str, data_dir: Path) -> Path:
    """Where files fetched by hand go: one folder a set, as MNIST and Fashion-MNIST share names."""
    return data_dir / "downloads" / "manual" / name


def registered_files(name: str) -> dict[str, checksums.UrlInfo]:
    """Address → size, SHA-256 and file name, as the installed TFDS registers them for `name`."""
    package = tfds.core.tfds_path()
    path = package / "datasets" / name / "checksums.tsv"
    if not path.exists():  # TFDS keeps those of its older builders elsewhere
        path = package / "url_checksums" / f"{name}.txt"
    return checksums.load_url_infos(path)


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """What the four have in common; `tfds_name` and `files` say what is downloaded.

    They stay out of TFDS's registry, which would list them among its own data sets.
    """

    VERSION = tfds.core.Version("1.0.0")
    tfds_name: str  # under which TFDS registers the checksums
    files: Sequence[str]  # names of the files needed
    shape: tuple[int, int, int]  # of an image
    encoding = "png"
    labelled = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(skip_registration=True, **kwargs)

    @property
    def url_infos(self) -> dict[str, checksums.UrlInfo]:
        """What the download manager checks files against and calls them in the manual folder."""
        return registered_files(self.tfds_name)

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=self.shape, encoding_format=self.encoding)
        label = {"label": tfds.features.ClassLabel(num_classes=10)} if self.labelled else {}
        features = tfds.features.FeaturesDict({"image": image, **label})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _download(self, manager: tfds.download.DownloadManager) -> dict[str, Path]:
        """File name → where it lies; only the manager's download, its extraction needs TF."""
        urls = {info.filename: url for url, info in self.url_infos.items()}
        try:
            return manager.download({name: urls[name] for name in self.files})
        # No connection, a refusal, a quota page instead of the file, a parser that is missing:
        # the manager has an exception for each, and the way out is the same.
        except Exception as error:
            raise ConfigError(self._help(error)) from error

    def _help(self, error: Exception) -> str:
        folder = manual_dir(self.tfds_name, Path(self.data_dir_root))
        lines = [
            f"config.data.name = {self.tfds_name!r}: the download failed "
            f"({type(error).__name__}: {errors.one_line(error)})",
            f"Try again later, or put by hand into {folder}",
        ]
        infos = {info.filename: (url, info) for url, info in self.url_infos.items()}
        for name in self.files:
            url, info = infos[name]
            lines.append(f"  {name} ({int(info.size)} bytes, sha256 {info.checksum}) from {url}")
        return "\n".join(lines)


class BeganCifar10(_Builder):
    """CIFAR-10 from its binary archive: a record is a label byte and three 32×32 planes."""

    tfds_name = "cifar10"
    files = (CIFAR10_ARCHIVE,)
    shape = (32, 32, 3)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Examples]:
        archive = self._download(dl_manager)[CIFAR10_ARCHIVE]
        train = [f"data_batch_{i}.bin" for i in range(1, 6)]
        return {
            "train": self._generate_examples(archive, train),
            "test": self._generate_examples(archive, ["test_batch.bin"]),
        }

    def _generate_examples(self, archive: Path, batches: Sequence[str]) -> Examples:
        index = 0
        with tarfile.open(archive) as tar:
            for batch in batches:
                content: Any = tar.extractfile(f"cifar-10-batches-bin/{batch}")
                records = np.frombuffer(content.read(), np.uint8).reshape(-1, 1 + 3 * 32 * 32)
                planes = records[:, 1:].reshape(-1, 3, 32, 32)
                for label, image in zip(records[:, 0], planes.transpose(0, 2, 3, 1), strict=True):
                    yield index, {"image": PIL.Image.fromarray(image), "label": int(label)}
                    index += 1


class BeganMnist(_Builder):
    """MNIST from its four gzipped IDX files."""

    tfds_name = "mnist"
    files = tuple(
        f"{part}-{kind}-ubyte.gz"
        for part in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    )
    shape = (28, 28, 1)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Examples]:
        found = self._download(dl_manager)
        paths = [found[name] for name in self.files]
        return {
            "train": self._generate_examples(*paths[:2]),
            "test": self._generate_examples(*paths[2:]),
        }

    def _generate_examples(self, images: Path, labels: Path) -> Examples:
        pairs = zip(_read_idx(images), _read_idx(labels), strict=True)
        for index, (image, label) in enumerate(pairs):
            yield index, {"image": PIL.Image.fromarray(image), "label": int(label)}


class BeganFashionMnist(BeganMnist):
    """Fashion-MNIST: other images in files of MNIST's names and layout."""

    tfds_name = "fashion_mnist"


class BeganCelebA(_Builder):
    """CelebA's aligned 178×218 images, split by its partition file; the JPEGs stay as they are."""

    tfds_name = "celeb_a"
    files = (CELEBA_ARCHIVE, CELEBA_PARTITION)
    shape = (218, 178, 3)
    encoding = "jpeg"
    labelled = False

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Examples]:
        paths = self._download(dl_manager)
        rows = [line.split() for line in paths[CELEBA_PARTITION].read_text().splitlines()]
        return {
            split: self._generate_examples(
                paths[CELEBA_ARCHIVE], sorted(name for name, part in rows if int(part) == number)
            )
            for number, split in enumerate(CELEBA_SPLITS)
        }

    def _generate_examples(self, archive: Path, names: Sequence[str]) -> Examples:
        with zipfile.ZipFile(archive) as images:
            for name in names:
                yield name, {"image": images.read(f"img_align_celeba/{name}")}

    def _help(self, error: Exception) -> str:
        return f"{super()._help(error)}\n{CELEBA_FROM_ZIP}"


def _read_idx(path: Path) -> np.ndarray:
    """A gzipped IDX file of bytes: 0, 0, 8 (bytes), number of axes, each length, then the data."""
    with gzip.open(path) as file:
        content = file.read()
    shape = tuple(np.frombuffer(content, ">u4", count=content[3], offset=4).tolist())
    return np.frombuffer(content, np.uint8, math.prod(shape), 4 + 4 * len(shape)).reshape(shape)


BUILDERS: dict[str, type[_Builder]] = {
    builder.tfds_name: builder
    for builder in (BeganCifar10, BeganMnist, BeganFashionMnist, BeganCelebA)
}
