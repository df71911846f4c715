"""TFDS sources: small archives of the real layout, prepared and read with TensorFlow barred."""

import dataclasses
import errno
import functools
import gzip
import hashlib
import http.server
import importlib.abc
import importlib.machinery
import io
import json
import os
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums, downloader

from began_jax.config import ConfigError
from began_jax.data import decoding, parallel, tfds_builders, tfds_source
from began_jax.errors import UserError
from tests.conftest import make_data_config

CONFIG = make_data_config("tfds", split="train")


class _TensorFlow(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """A TensorFlow that is installed, as far as one can see, and breaks when it is imported."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] == "tensorflow":
            return importlib.machinery.ModuleSpec(fullname, self)
        return None

    def create_module(self, spec):
        pytest.fail(f"{spec.name} was imported")  # no Exception, so nothing swallows it

    def exec_module(self, module):
        raise NotImplementedError


@pytest.fixture(autouse=True)
def no_tensorflow(monkeypatch) -> Iterator[None]:
    assert "tensorflow" not in sys.modules
    monkeypatch.setattr(sys, "meta_path", [_TensorFlow(), *sys.meta_path])
    yield
    assert "tensorflow" not in sys.modules


@pytest.fixture(autouse=True)
def own_dir(tmp_path, cache_dir, monkeypatch) -> Path:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloader, "MAX_RETRIES", 0)  # TFDS's ten take minutes
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # every builder leaves a folder there
    return cache_dir / "tfds"


@pytest.fixture
def register(monkeypatch):
    """Replaces TFDS's registered files of a set by those of a folder, at `base`."""

    def replace(folder: Path, base: str = "http://127.0.0.1:9/") -> None:
        infos = {base + file.name: checksums.compute_url_info(file) for file in folder.iterdir()}
        monkeypatch.setattr(tfds_builders, "registered_files", lambda name: infos)

    return replace


@pytest.fixture
def serve() -> Iterator:
    servers = []

    def start(folder: Path) -> str:
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))
        )
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def _manual(name: str) -> Path:
    folder = tfds_builders.manual_dir(name, tfds_source.own_dir())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _load(name: str, *, resolution: int = 32, channels: int = 3, **changes) -> np.ndarray:
    config = dataclasses.replace(CONFIG, name=name, **changes)
    return tfds_source.load(config, resolution=resolution, channels=channels)


def _stored(name: str, split: str) -> list[bytes]:
    builder = tfds_source._find(name)
    return list(tfds_source._encoded_images(builder, split, builder.info.features["image"]))


def _write_cifar10(folder: Path, per_batch: int = 2) -> None:
    """Image i has red = column, green = row, blue = i everywhere, and label i mod 10."""
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    columns, rows = bytes(range(32)) * 32, b"".join(bytes([y]) * 32 for y in range(32))
    members = {"batches.meta.txt": "".join(f"class {i}\n" for i in range(10)).encode()}
    for batch, name in enumerate(names):
        numbers = range(batch * per_batch, (batch + 1) * per_batch)
        records = [bytes([i % 10]) + columns + rows + bytes([i]) * 1024 for i in numbers]
        members[name] = b"".join(records)
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _write_mnist(folder: Path, images: np.ndarray) -> None:
    """Training images as given, test images turned upside down; labels count up."""
    for part, content in (("train", images), ("t10k", images[:1, ::-1])):
        count = len(content).to_bytes(4, "big")
        with gzip.open(folder / f"{part}-images-idx3-ubyte.gz", "wb") as file:
            side = (28).to_bytes(4, "big")
            file.write(b"\0\0\x08\x03" + count + side + side + content.tobytes())
        with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(b"\0\0\x08\x01" + count + bytes(range(len(content))))


def _write_celeba(folder: Path) -> dict[str, bytes]:
    """Five 178×218 JPEGs: 000001 and 000004 train, 000003 validation, 000002 and 000005 test."""
    jpegs = {}
    ramp = np.linspace(0, 255, 178).astype(np.uint8) * np.ones((218, 1), np.uint8)
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        for i in range(1, 6):
            file = io.BytesIO()
            PIL.Image.fromarray(np.stack([ramp, ramp.clip(i * 40), ramp * 0], -1)).save(
                file, "jpeg", quality=80 + i
            )
            jpegs[f"00000{i}.jpg"] = file.getvalue()
            archive.writestr(f"img_align_celeba/00000{i}.jpg", file.getvalue())
    parts = zip(jpegs, (0, 2, 1, 0, 2), strict=True)
    lines = [f"{name} {part}\n" for name, part in parts]
    (folder / "list_eval_partition.txt").write_text("".join(lines))
    return jpegs


class Faces(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What TFDS itself would have prepared: among others a feature that only TF could decode."""

    VERSION = tfds.core.Version("2.3.4")
    name = "faces"
    image_key = "image"
    image_dtype: type = np.uint8
    size = (20, 16)

    def _info(self):
        features = {
            self.image_key: tfds.features.Image(
                shape=(None, None, 3), dtype=self.image_dtype, encoding_format="png"
            ),
            "about": {"depth": tfds.features.Image(shape=(2, 2, 1), dtype=np.float32)},
            "title": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(8)}

    def _generate_examples(self, count):
        for i in range(count):
            image = PIL.Image.fromarray(np.full((*self.size, 3), i, np.uint8))
            # The float feature's own encoder needs TF; the record is written as it would write it.
            yield i, {self.image_key: image, "about": {"depth": b"not decoded"}, "title": "x"}


@pytest.fixture
def prepared(monkeypatch):
    """Prepares `Faces` under $TFDS_DATA_DIR as array_record; returns its folder."""
    encoder = tfds.features.Image(shape=(2, 2, 1), dtype=np.float32)._image_encoder

    def prepare(**attributes) -> Path:
        class Prepared(Faces, skip_registration=True):
            name = "faces"

        for attribute, value in attributes.items():
            setattr(Prepared, attribute, value)
        with monkeypatch.context() as patch:
            patch.setattr(type(encoder), "encode_image_or_path", lambda self, value: value)
            builder = Prepared(data_dir=tfds_source.tfds_dir(), file_format="array_record")
            builder.download_and_prepare()
        return Path(builder.data_dir)

    return prepare


def test_cifar10_planes_become_rows_of_pixels(register):
    _write_cifar10(_manual("cifar10"))
    register(tfds_builders.manual_dir("cifar10", tfds_source.own_dir()))
    train, test = _load("cifar10"), _load("cifar10", split="test")
    assert train.shape == (10, 32, 32, 3)
    assert train.dtype == np.uint8
    assert sorted(train[:, 0, 0, 2]) == list(range(10))  # all five batches
    assert sorted(test[:, 0, 0, 2]) == [10, 11]
    for image in [*train, *test]:
        np.testing.assert_array_equal(image[3, 20], [20, 3, image[0, 0, 2]])
        np.testing.assert_array_equal(image[..., 0], np.tile(np.arange(32), (32, 1)))
        np.testing.assert_array_equal(image[..., 1], np.tile(np.arange(32), (32, 1)).T)
        assert np.unique(image[..., 2]).size == 1
    center = _load("cifar10", crop_size=16, resolution=16)[0]
    np.testing.assert_array_equal(center[0, 0, :2], [8, 8])


def test_cifar10_keeps_labels_and_is_prepared_once(register, capsys):
    _write_cifar10(_manual("cifar10"))
    register(tfds_builders.manual_dir("cifar10", tfds_source.own_dir()))
    builder = tfds_builders.prepare("cifar10", tfds_source.own_dir())
    labels = {ex["image"][0, 0, 2]: ex["label"] for ex in builder.as_data_source("train")}
    assert labels == {i: i for i in range(10)}
    tfds_builders.prepare("cifar10", tfds_source.own_dir())
    assert [m for m in capsys.readouterr().err.splitlines() if m.startswith("preparing")] == [
        f"preparing cifar10; files that are already here can be put into {_manual('cifar10')}"
    ]


def test_mnist_and_fashion_mnist_keep_apart(register):
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    for name, content in (("mnist", images), ("fashion_mnist", 255 - images)):
        _write_mnist(_manual(name), content)
        register(tfds_builders.manual_dir(name, tfds_source.own_dir()))
        stored = [np.asarray(PIL.Image.open(io.BytesIO(png))) for png in _stored(name, "train")]
        key = np.ndarray.tobytes
        np.testing.assert_array_equal(sorted(stored, key=key), sorted(content, key=key))
        test = _load(name, split="test", channels=1)
        expected = decoding.to_array(
            PIL.Image.fromarray(content[0, ::-1]),
            resolution=32,
            channels=1,
            crop="center",
            crop_size=0,
        )
        np.testing.assert_array_equal(test, expected[None])


def test_celeba_splits_and_bytes(register):
    jpegs = _write_celeba(_manual("celeb_a"))
    register(tfds_builders.manual_dir("celeb_a", tfds_source.own_dir()))
    parts = {"train": (1, 4), "validation": (3,), "test": (2, 5)}
    for split, numbers in parts.items():
        assert set(_stored("celeb_a", split)) == {jpegs[f"00000{i}.jpg"] for i in numbers}
    faces = _load("celeb_a", crop="celeba", resolution=16, split="validation")
    expected = decoding.to_array(
        PIL.Image.open(io.BytesIO(jpegs["000003.jpg"])),
        resolution=16,
        channels=3,
        crop="celeba",
        crop_size=0,
    )
    np.testing.assert_array_equal(faces, expected[None])


def test_downloads_once(tmp_path, register, serve, monkeypatch):
    (tmp_path / "net").mkdir()
    _write_cifar10(tmp_path / "net")
    register(tmp_path / "net", serve(tmp_path / "net"))
    first = np.array(_load("cifar10"))
    archive = tmp_path / "net" / "cifar-10-binary.tar.gz"
    archive.unlink()
    monkeypatch.setenv("BEGAN_JAX_CACHE", str(tmp_path / "other"))  # prepared anew there
    (tmp_path / "other" / "tfds").mkdir(parents=True)
    downloads = tmp_path / "cache" / "tfds" / "downloads"
    downloads.rename(tmp_path / "other" / "tfds" / "downloads")
    np.testing.assert_array_equal(_load("cifar10"), first)


def test_two_processes_may_prepare_at_once(register, monkeypatch):
    _write_cifar10(_manual("cifar10"))
    register(tfds_builders.manual_dir("cifar10", tfds_source.own_dir()))
    original = tfds_builders.BeganCifar10._split_generators

    def overtaken(self, dl_manager):
        monkeypatch.setattr(tfds_builders.BeganCifar10, "_split_generators", original)
        tfds_builders.prepare("cifar10", tfds_source.own_dir())
        return original(self, dl_manager)

    monkeypatch.setattr(tfds_builders.BeganCifar10, "_split_generators", overtaken)
    assert len(_load("cifar10")) == 10
    prepared = tfds_source.own_dir() / "began_cifar10"
    assert [path.name for path in prepared.iterdir()] == ["1.0.0"]  # nothing half done is left


def test_full_disk_ends_in_one_line(own_dir, register, monkeypatch):
    _write_cifar10(_manual("cifar10"))
    register(tfds_builders.manual_dir("cifar10", tfds_source.own_dir()))

    def full(self, dl_manager):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tfds_builders.BeganCifar10, "_split_generators", full)
    with pytest.raises(UserError) as error:
        _load("cifar10")
    assert str(error.value).startswith(f"{own_dir}: [Errno 28] No space left on device; $BEGAN")


def test_failed_download_says_which_file_goes_where(tmp_path, own_dir, register, serve):
    folder, empty = tmp_path / "registered", tmp_path / "empty"
    folder.mkdir()
    empty.mkdir()
    _write_cifar10(folder)
    address = serve(empty)
    register(folder, address)
    digest = hashlib.sha256((folder / "cifar-10-binary.tar.gz").read_bytes()).hexdigest()
    with pytest.raises(ConfigError) as error:
        _load("cifar10")
    message = str(error.value)
    assert "config.data.name = 'cifar10': the download failed" in message
    assert "HTTP code: 404" in message
    assert f"put by hand into {own_dir / 'downloads' / 'manual' / 'cifar10'}\n" in message
    assert "cifar-10-binary.tar.gz (" in message
    assert digest in message
    assert f"from {address}cifar-10-binary.tar.gz" in message
    assert "source=folder" not in message


def test_celeba_quota_page_ends_in_one_message(tmp_path, own_dir, register, serve):
    (tmp_path / "registered").mkdir()
    _write_celeba(tmp_path / "registered")
    (tmp_path / "net").mkdir()
    for file in (tmp_path / "registered").iterdir():
        (tmp_path / "net" / file.name).write_text("<html>Quota exceeded</html>")
    register(tmp_path / "registered", serve(tmp_path / "net"))
    with pytest.raises(ConfigError) as error:
        _load("celeb_a")
    message = str(error.value)
    assert "NonMatchingChecksumError" in message
    assert f"put by hand into {own_dir / 'downloads' / 'manual' / 'celeb_a'}\n" in message
    assert "\n  img_align_celeba.zip (" in message
    assert "\n  list_eval_partition.txt (" in message
    assert (
        "--config.data.source=folder --config.data.path=img_align_celeba.zip "
        "--config.data.crop=celeba" in message
    )


def test_wrong_manual_file_is_refused(register):
    folder = _manual("cifar10")
    _write_cifar10(folder)
    register(folder)
    _write_cifar10(folder, per_batch=1)
    with pytest.raises(ConfigError, match="wrong checksum") as error:
        _load("cifar10")
    assert str(folder / "cifar-10-binary.tar.gz") in str(error.value)


@pytest.mark.parametrize("name", tfds_builders.BUILDERS)
def test_installed_tfds_registers_every_file(name):
    infos = {info.filename: info for info in tfds_builders.registered_files(name).values()}
    for file in tfds_builders.BUILDERS[name].files:
        assert len(infos[file].checksum) == 64
        assert infos[file].size > 1000
    if name == "cifar10":  # the number is the one on the authors' page
        assert infos["cifar-10-binary.tar.gz"].size == 170_052_171


def test_second_load_decodes_nothing(prepared, monkeypatch):
    prepared()
    first = _load("faces")
    monkeypatch.setattr(decoding, "to_array", lambda *a, **k: pytest.fail("decoded again"))
    second = _load("faces")
    assert isinstance(second, np.memmap)
    np.testing.assert_array_equal(second, first)


@pytest.mark.parametrize(
    "change",
    [
        {"split": "train[4:]"},  # as many, and the label's letters are the same
        {"crop": "celeba"},
        {"crop_size": 8},
        {"resolution": 16},
        {"channels": 1},
        {},
    ],
    ids=str,
)
def test_every_setting_is_in_the_key(prepared, monkeypatch, change):
    folder = prepared(size=(218, 178))
    _load("faces", split="train[:4]")
    calls = []
    original = decoding.to_array

    def to_array(*args, **kwargs):
        calls.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(decoding, "to_array", to_array)
    if not change:  # prepared again: a file has another size
        with (folder / "dataset_info.json").open("a") as file:
            file.write("\n")
    _load("faces", **{"split": "train[:4]", **change})
    assert calls


def test_an_image_that_does_not_fit_is_named(prepared):
    prepared()
    with pytest.raises(ConfigError) as error:
        _load("faces", crop="celeba")
    expected = "config.data.name = 'faces': image 0 of 'train': 16×20 pixels; crop 'celeba' needs"
    assert str(error.value).startswith(expected)


def test_order_is_that_of_the_files(prepared, monkeypatch):
    monkeypatch.setattr(parallel, "_READ_AHEAD", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    prepared()
    stored = [PIL.Image.open(io.BytesIO(png)).getpixel((0, 0)) for png in _stored("faces", "train")]
    np.testing.assert_array_equal(_load("faces")[:, 0, 0], stored)


def test_reads_a_set_that_tfds_prepared_and_only_its_image(prepared):
    prepared()
    images = _load("faces")
    assert images.shape == (8, 32, 32, 3)
    assert sorted(images[:, 5, 5, 0]) == list(range(8))
    assert len(_load("faces", split="train[:3]")) == 3


def test_a_prepared_cifar10_is_taken_rather_than_downloaded(prepared):
    prepared(name="cifar10")
    assert len(_load("cifar10")) == 8


def _as_tfrecord(folder: Path) -> None:
    info = json.loads((folder / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    (folder / "dataset_info.json").write_text(json.dumps(info))


def test_tfrecord_is_refused_with_the_remedy(prepared):
    folder = prepared()
    _as_tfrecord(folder)
    with pytest.raises(ConfigError, match="as tfrecord, which cannot be read by index") as error:
        _load("faces")
    assert str(folder) in str(error.value)
    assert f"\n  rm -r {folder}\n" in str(error.value)
    assert "tfds.builder('faces', data_dir=" in str(error.value)


def test_tfrecord_cifar10_is_prepared_anew(prepared, register):
    _as_tfrecord(prepared(name="cifar10"))
    _write_cifar10(_manual("cifar10"))
    register(tfds_builders.manual_dir("cifar10", tfds_source.own_dir()))
    assert len(_load("cifar10")) == 10


@pytest.mark.parametrize("name", ["kmnist", "sift1m"])  # TFDS's code of sift1m imports h5py
def test_unprepared_set_needs_tensorflow_once(name):
    with pytest.raises(ConfigError) as error:
        _load(name)
    message = str(error.value)
    assert f"config.data.name = '{name}': not prepared in" in message
    assert "pip install -r requirements.txt tensorflow-cpu tensorboard\n" in message
    call = (
        f"tfds.builder('{name}', data_dir='{tfds_source.tfds_dir()}', file_format='array_record')"
    )
    assert f'"import tensorflow_datasets as tfds; {call}.download_and_prepare()"' in message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cifar11", r"has no such data set, .* did you mean cifar10\w*\?"),
        ("began_cifar10", "has no such data set, .* did you mean cifar10"),  # not TFDS's own
        ("someone:cifar10", "has no such data set"),
        ("no name", "a TFDS name is needed: set"),
    ],
)
def test_unknown_name(name, text):
    with pytest.raises(ConfigError, match=text) as error:
        _load(name)
    assert f"config.data.name = '{name}'" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("split", ["trian", "train[:0]", "train[", "train[:x%]", "train[5:2]"])
def test_unknown_split_lists_what_exists(prepared, split):
    prepared()
    with pytest.raises(ConfigError) as error:
        _load("faces", split=split)
    expected = f"config.data.split = '{split}': no images; faces has train (8), "
    assert str(error.value).startswith(expected)


@pytest.mark.parametrize(
    ("attributes", "text"),
    [({"image_key": "picture"}, "picture"), ({"image_dtype": np.uint16}, "16")],
)
def test_set_without_a_usable_image(prepared, attributes, text):
    prepared(**attributes)
    with pytest.raises(ConfigError, match="'image' of 8 bits; it has") as error:
        _load("faces")
    assert text in str(error.value)
    assert "\n" not in str(error.value)
