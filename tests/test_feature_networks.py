import hashlib
import io
import os
import sys
import types
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from began_jax import errors
from began_jax.data import synthetic_faces
from began_jax.metrics import (
    convert,
    efficientnet_lite0,
    inception,
    networks,
    random_conv,
)
from benchmarks import inception_parity

RGB = jax.ShapeDtypeStruct((2, 32, 32, 3), np.uint8)
GRAY = jax.ShapeDtypeStruct((2, 32, 32, 1), np.uint8)


def lite0_arrays(seed=0):
    """Random arrays of the file's layout, whose activations stay of size 1."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for key, shape in efficientnet_lite0.SHAPES.items():
        fan_in = np.prod(shape[:-1])
        scale = (2 / fan_in) ** 0.5 if key.endswith("kernel") else 0.2
        arrays[key] = (scale * rng.standard_normal(shape)).astype(np.float32)
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    return {**arrays, "block_strides": np.array(strides, np.int32)}


def slow_conv(x, kernel, bias, stride):
    """XLA's and TensorFlow's SAME, in float64; a kernel (k, k, 1, C) is depthwise."""
    k = len(kernel)
    pads = [(0, 0), *(pad(size, k, stride) for size in x.shape[1:3]), (0, 0)]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, pads), (k, k), axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    depthwise = kernel.shape[2] == 1
    subscripts = "bhwcij,ijc->bhwc" if depthwise else "bhwcij,ijcn->bhwn"
    kernel = np.asarray(kernel[:, :, 0] if depthwise else kernel, np.float64)
    return np.einsum(subscripts, windows, kernel, optimize=True) + bias


def pad(size, k, stride):
    total = max((-(-size // stride) - 1) * stride + k - size, 0)
    return total // 2, total - total // 2


def slow_lite0(arrays, x):
    """The forward pass as the layout tells it, read off the arrays alone."""

    def conv(name, x, stride=1):
        return slow_conv(x, arrays[f"{name}/kernel"], arrays[f"{name}/bias"], stride)

    def relu6(x):
        return np.clip(x, 0, 6)

    x = relu6(conv("stem", np.asarray(x, np.float64), 2))
    for i, stride in enumerate(arrays["block_strides"]):
        y = relu6(conv(f"block{i:02}/expand", x)) if i else x
        y = conv(f"block{i:02}/project", relu6(conv(f"block{i:02}/depthwise", y, stride)))
        x = x + y if stride == 1 and x.shape == y.shape else y
    features = relu6(conv("head", x)).mean((1, 2))
    return features, features @ arrays["fc/kernel"] + arrays["fc/bias"]


def test_lite0_is_the_layout_s_forward_pass():
    arrays = lite0_arrays()
    # Even and odd sides on the way down: 46, 23, 12, 6, 3, 2 and 33, 17, 9, 5, 3, 2.
    x = np.random.default_rng(1).uniform(-1, 1, (2, 46, 33, 3)).astype(np.float32)
    ours = jax.jit(efficientnet_lite0.forward)(efficientnet_lite0.params(arrays), x)
    for result, expected in zip(ours, slow_lite0(arrays, x), strict=True):
        # Some fifty layers in float32.
        np.testing.assert_allclose(result, expected, atol=1e-5 * np.abs(expected).max())


def test_lite0_reads_a_gray_as_three_colours_and_doubles_it_bilinearly():
    params = efficientnet_lite0.params(lite0_arrays())
    gray = np.random.default_rng(1).integers(0, 256, (1, 112, 112, 1), np.uint8)
    x = (doubled(doubled(gray, 1), 2).repeat(3, -1) - 127) / 128

    @jax.jit
    def both(params, images, x):
        return efficientnet_lite0.apply(params, images), efficientnet_lite0.forward(params, x)

    for result, expected in zip(*both(params, gray, x.astype(np.float32)), strict=True):
        np.testing.assert_allclose(result, expected, atol=1e-5 * np.abs(expected).max())


def doubled(x, axis):
    """Each pixel's quarters: ¾ of it and ¼ of the neighbour on that side, at the edge itself."""
    x = np.moveaxis(np.asarray(x, np.float64), axis, 0)
    before, after = np.concatenate([x[:1], x[:-1]]), np.concatenate([x[1:], x[-1:]])
    pairs = np.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], 1)
    return np.moveaxis(pairs.reshape(-1, *x.shape[1:]), 0, axis)


def test_lite0_with_imagenet_s_weights_gives_the_known_features():
    variable = "BEGAN_JAX_EFFICIENTNET_LITE0"
    path = Path(os.environ.get(variable, ""))
    check = path.with_name("efficientnet_lite0_check.npz") if path.name else path
    images = path.with_name("cifar10_test_first1000.zip") if path.name else path
    if not all(file.is_file() for file in (path, check, images)):
        pytest.skip(
            f"${variable} names no weights' file with efficientnet_lite0_check.npz and "
            "cifar10_test_first1000.zip beside it"
        )
    network = networks.load("efficientnet_lite0", path)
    features, _ = jax.jit(network.apply)(network.params, first_tiles(images, 8, 32))
    with np.load(check) as stored:
        np.testing.assert_allclose(features, stored["features"], atol=1e-4)


def first_tiles(path, count, side):
    """Of a zip of mosaics."""
    with zipfile.ZipFile(path) as archive:
        name = min(name for name in archive.namelist() if not name.endswith(".npy"))
        mosaic = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
    rows, columns = mosaic.shape[0] // side, mosaic.shape[1] // side
    tiles = mosaic.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
    return tiles.reshape(-1, side, side, 3)[:count]


def test_the_random_network_never_changes():
    network = networks.load("random_conv", None)
    # Another hash means other weights: every distance reported so far would be of another kind.
    assert network.sha256 == "e64ba2458fa42661f2a4526684af334e853b36cc5c3279775c6e916ea81173f9"
    assert [kernel.shape[2:] for kernel in network.params] == [
        (3, 32),
        (32, 32),
        (32, 32),
        (32, 32),
    ]
    variances = [np.var(kernel) * 9 * kernel.shape[2] for kernel in network.params]
    np.testing.assert_allclose(variances, 2, rtol=0.1)


def test_the_random_network_tells_images_from_blurred_ones():
    faces, others = (
        synthetic_faces.generate(0, np.arange(start, start + 256), 32, 3)[0] for start in (0, 256)
    )
    padded = np.pad(faces.astype(np.float32), ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    blurred = np.rint(windows.mean((-2, -1))).astype(np.uint8)
    apply = jax.jit(random_conv.apply)
    ours, theirs, soft = (
        apply(random_conv.params(), images)[0].mean(0) for images in (faces, others, blurred)
    )
    assert ours.shape == (256,)
    # A blur moves more than another draw of as many images.
    assert np.linalg.norm(soft - ours) > 2 * np.linalg.norm(theirs - ours)


def test_the_random_network_reads_a_gray_as_three_equal_colours():
    gray = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1), np.uint8)
    params = random_conv.params()
    features, logits = random_conv.apply(params, gray)
    np.testing.assert_array_equal(features, random_conv.apply(params, gray.repeat(3, -1))[0])
    assert logits is None


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """Random weights, converted as the published ones are."""
    directory = tmp_path_factory.mktemp("inception")
    source, target = directory / "random.pth", directory / "random.npz"
    source.write_bytes(b"read by nobody")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", fake_torch(inception_parity.random_state()))
        sha256 = convert.convert("inception", source, target)
    assert sha256 == hashlib.sha256(b"read by nobody").hexdigest()
    yield target
    target.unlink()  # 87 MB


def fake_torch(state):
    def load(file, *, map_location, weights_only):
        assert map_location == "cpu" and weights_only is True
        if isinstance(state, Exception):
            raise state
        return state

    return types.SimpleNamespace(load=load)


# The first values that benchmarks/inception_parity.py prints of PyTorch's outputs.
PYTORCHS = {
    "64": [0.0089888, 0.1012052, 1.1175876, 0.5703281],
    "192": [0.836908, 0.0281521, 0.0890809, 0.5614918],
    "768": [0.0, 0.1525819, 0.0, 0.0289388],
    "2048": [4.4736533, 2.353381, 4.469968, 0.5689461],
    "logits_unbiased": [6.1049995, -0.7481496, 0.8116744, 6.231474],
}


def test_inception_gives_the_values_of_pytorch_s(inception_file):
    network = networks.load("inception", inception_file)
    image = inception_parity.random_images(1, 32, 32)

    @jax.jit
    def outputs(params, images):
        # XLA sees the same twice, and computes it once.
        parts = inception.forward(params, (inception.resize(images) - 128) / 128)
        return parts, network.apply(params, images)

    parts, (features, logits) = outputs(network.params, image)
    assert (features.shape, logits.shape) == ((1, 2048), (1, 1008))
    np.testing.assert_array_equal(features, parts["2048"])
    np.testing.assert_array_equal(logits, parts["logits_unbiased"])
    for name, expected in PYTORCHS.items():
        np.testing.assert_allclose(parts[name][0, :4], expected, atol=2e-5, err_msg=name)


def test_inception_takes_colours_and_grays():
    params = jax.eval_shape(
        lambda: inception.params({key: np.ones(shape) for key, shape in inception.SHAPES.items()})
    )
    for images in (RGB, GRAY):
        features, logits = jax.eval_shape(inception.apply, params, images)
        assert (features.shape, logits.shape) == ((2, 2048), (2, 1008))


@pytest.mark.parametrize(("height", "width"), [(5, 32), (64, 400)])
def test_inception_s_resize_is_tensorflow_1_s(height, width):
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, 1), np.uint8)

    def matrix(size):
        """What each of the 299 rows or columns reads of each of `size`."""
        rows = np.zeros((299, size))
        for i in range(299):
            low, numerator = divmod(i * size, 299)
            rows[i, low] += 1 - numerator / 299
            rows[i, min(low + 1, size - 1)] += numerator / 299
        return rows

    expected = np.einsum("ih,jw,bhwc->bijc", matrix(height), matrix(width), images, optimize=True)
    # Of 255; the places are rounded to float32.
    np.testing.assert_allclose(inception.resize(images), expected.repeat(3, -1), atol=0.02)


def test_the_average_pool_leaves_the_padding_out():
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 3)).astype(np.float32)
    expected = np.empty_like(x)
    for i in range(4):
        for j in range(5):
            window = x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            expected[:, i, j] = window.mean((1, 2))
    np.testing.assert_allclose(inception.average_pool(x), expected, atol=1e-6)


def refused(name, path):
    with pytest.raises(errors.UserError) as caught:
        networks.load(name, path)
    text = str(caught.value)
    assert "\n" not in text
    return text


SOURCES = {
    "efficientnet_lite0": "convert efficientnet_lite0 IN.pth OUT.npz",
    "inception": "convert inception IN.pth OUT.npz",
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_missing_file_is_told_in_one_line(name, tmp_path):
    empty = refused(name, None)
    absent = refused(name, tmp_path / "absent.npz")
    assert empty.startswith("--weights or config.eval.weights is needed: ")
    assert absent.startswith(f"--weights={tmp_path / 'absent.npz'}: No such file")
    for text in (empty, absent):
        assert f"{name!r} reads " in text
        assert SOURCES[name] in text


def test_a_file_too_many_is_refused(tmp_path):
    assert "reads no file" in refused("random_conv", tmp_path / "weights.npz")


BROKEN = {
    "stem/bias is missing": {"stem/bias": None},
    "head/bias has the shape (3,), not (1280,)": {"head/bias": np.zeros(3)},
    "fc/bias is no array of numbers": {"fc/bias": np.full(1000, "x")},
    "block_strides are [1, 1,": {"block_strides": np.ones(16, np.int32)},
    "Object arrays cannot be loaded": {"stem/bias": np.full(32, None, object)},
}


@pytest.mark.parametrize("problem", BROKEN)
def test_another_layout_is_told_in_one_line(problem, tmp_path):
    arrays = lite0_arrays() | BROKEN[problem]
    arrays = {key: array for key, array in arrays.items() if array is not None}
    path = tmp_path / "weights.npz"
    np.savez(path, **arrays)
    text = refused("efficientnet_lite0", path)
    assert f"{path}: {problem}" in text
    assert SOURCES["efficientnet_lite0"] in text


def test_what_is_no_npz_is_told_in_one_line(tmp_path):
    path = tmp_path / "weights.npz"
    np.save(tmp_path / "one.npy", np.zeros(3))
    path.write_bytes((tmp_path / "one.npy").read_bytes())
    assert f"{path}: is no .npz" in refused("inception", path)
    np.savez(path, **{"fc.weight": np.zeros((1008, 2048), np.float32)})
    path.write_bytes(path.read_bytes()[:1000])
    assert "not a zip file" in refused("inception", path)
    with zipfile.ZipFile(path, "w") as archive:  # as PyTorch's files are
        archive.writestr("archive/data.pkl", b"")
    assert f"{path}: fc.weight is missing" in refused("inception", path)
    assert "Is a directory" in refused("inception", tmp_path)


def convert_refused(tmp_path, state, target="out.npz"):
    source = tmp_path / "in.pth"
    source.write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", fake_torch(state) if state is not None else None)
        with pytest.raises(errors.UserError) as caught:
            convert.convert("inception", source, tmp_path / target)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.pth"]
    return str(caught.value)


def test_the_converter_refuses_in_one_line_and_leaves_nothing(tmp_path):
    zeros = {key: np.zeros(shape, np.float32) for key, shape in inception.SHAPES.items()}
    # torchvision's own Inception has ImageNet's 1000 classes.
    other = {**zeros, "fc.weight": np.zeros((1000, 2048))}
    assert "pip install torch" in convert_refused(tmp_path, None)
    assert "of weights alone" in convert_refused(tmp_path, KeyError("trust\nme"))
    assert "no state_dict" in convert_refused(tmp_path, [1, 2])
    assert "not (1008, 2048)" in convert_refused(tmp_path, other)
    assert "No such file" in convert_refused(tmp_path, zeros, target="absent/out.npz")


def test_batch_norm_is_folded_into_the_convolutions(tmp_path, monkeypatch):
    arrays = lite0_arrays()
    rng = np.random.default_rng(1)
    names = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for i in range(16):
        parts = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
        names.update(
            {
                f"block{i:02}/{part}": (f"_blocks.{i}._{part}_conv", f"_blocks.{i}.{norm}")
                for part, norm in parts.items()
            }
        )
    state = {"_fc.weight": arrays["fc/kernel"].T, "_fc.bias": arrays["fc/bias"]}
    for name, (convolution, norm) in names.items():
        if f"{name}/kernel" not in arrays:
            continue
        kernel, bias = arrays[f"{name}/kernel"], arrays[f"{name}/bias"]
        gain, mean, variance = rng.uniform(0.5, 2, (3, len(bias)))
        # gain · (conv(x) − mean) / √(variance + ε) + offset is the convolution of the .npz.
        scale = gain / np.sqrt(variance + 1e-3)
        state[f"{convolution}.weight"] = (kernel / scale).transpose(3, 2, 0, 1)
        values = (gain, bias + mean * scale, mean, variance)
        for part, value in zip(
            ("weight", "bias", "running_mean", "running_var"), values, strict=True
        ):
            state[f"{norm}.{part}"] = value
    source, target = tmp_path / "in.pth", tmp_path / "out.npz"
    source.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", fake_torch(state))
    convert.convert("efficientnet_lite0", source, target)
    with np.load(target) as found:
        assert set(found) == set(arrays)
        for key, array in arrays.items():
            np.testing.assert_allclose(found[key], array, rtol=1e-5, atol=1e-6, err_msg=key)
    del state["_blocks.7._bn1.running_var"]
    with pytest.raises(errors.UserError, match=r"'_blocks\.7\._bn1\.running_var' is missing"):
        convert.convert("efficientnet_lite0", source, target)
