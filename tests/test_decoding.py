"""From image files of every kind to squares: exact wherever a closed form exists."""

import io

import numpy as np
import PIL.Image
import pytest

from began_jax.data import decoding

RNG = np.random.default_rng(0)
QUADRANTS = np.kron(np.array([[10, 80], [150, 220]], np.uint8), np.ones((8, 8), np.uint8))


def _array(image, resolution=None, channels=3, crop="center", crop_size=0):
    return decoding.to_array(
        image,
        resolution=resolution or min(image.size),
        channels=channels,
        crop=crop,
        crop_size=crop_size,
    )


def _file(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def _reopened(image, kind="png", **options):
    return decoding.open_image(_file(image, kind, **options))


def _random(height, width, channels=3):
    return RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_same_size_is_untouched(channels):
    pixels = _random(6, 6, channels)
    result = _array(decoding.to_image(pixels), channels=channels)
    assert result.dtype == np.uint8
    assert result.flags.writeable
    np.testing.assert_array_equal(result, pixels)


@pytest.mark.parametrize("factor", [2, 4, 3, 5])
def test_integer_factor_is_the_block_mean(factor):
    pixels = _random(4 * factor, 4 * factor)
    mean = pixels.reshape(4, factor, 4, factor, 3).mean((1, 3))
    result = _array(decoding.to_image(pixels), 4)
    # Pillow divides by multiplying with a truncated 1 / factor²: the last tie below 0.5 slips.
    assert np.abs(result - mean).max() <= 0.5 + 0.5 / factor**2 + 1e-9
    if factor in (2, 4):
        np.testing.assert_array_equal(result, np.floor(mean + 0.5))


@pytest.mark.parametrize(("size", "resolution"), [(89, 32), (100, 64), (28, 32), (32, 64)])
def test_resize_never_rings_and_keeps_flat_images(size, resolution):
    step = np.full((size, size, 3), 100, np.uint8)
    step[:, size // 2 :] = 200
    step[: size // 2, :, 1] = 200
    result = _array(decoding.to_image(step), resolution)
    assert (result.min(), result.max()) == (100, 200)
    flat = _array(decoding.to_image(np.full((size, size, 3), 77, np.uint8)), resolution)
    assert np.all(flat == 77)


@pytest.mark.parametrize("resolution", [40, 48, 60])
def test_resize_is_antialiased(resolution):
    stripes = np.zeros((120, 120, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the result can show, so it must become even grey
    result = _array(decoding.to_image(stripes), resolution)[4:-4, 4:-4].astype(int)
    assert np.abs(result - 127.5).max() < 45


def test_resize_is_centred():
    pixels = _random(89, 89)
    result = _array(decoding.to_image(pixels), 32)
    for axis in (0, 1):
        flipped = _array(decoding.to_image(np.flip(pixels, axis)), 32)
        np.testing.assert_allclose(np.flip(flipped, axis).astype(int), result, atol=1)


@pytest.mark.parametrize(
    ("height", "width", "crop_size", "rows", "columns"),
    [
        (4, 9, 0, slice(0, 4), slice(2, 6)),
        (10, 4, 0, slice(3, 7), slice(0, 4)),
        (7, 8, 4, slice(1, 5), slice(2, 6)),
        (5, 5, 5, slice(0, 5), slice(0, 5)),
    ],
)
def test_central_square(height, width, crop_size, rows, columns):
    pixels = _random(height, width)
    image = decoding.to_image(pixels)
    result = _array(image, crop_size or min(height, width), crop_size=crop_size)
    np.testing.assert_array_equal(result, pixels[rows, columns])


def test_crop_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match="9×5 pixels; smaller than crop_size 6"):
        _array(decoding.to_image(_random(5, 9)), crop_size=6)


def test_celeba_box():
    rows, columns = np.mgrid[:218, :178].astype(np.uint8)
    image = decoding.to_image(np.stack([rows, columns, rows ^ columns], -1))
    result = _array(image, 128, crop="celeba")
    np.testing.assert_array_equal(result[..., 0], np.tile(np.arange(50, 178)[:, None], 128))
    np.testing.assert_array_equal(result[..., 1], np.tile(np.arange(25, 153), (128, 1)))


def test_celeba_at_64_is_the_block_mean_of_the_box():
    pixels = _random(218, 178)
    result = _array(decoding.to_image(pixels), 64, crop="celeba")
    mean = pixels[50:178, 25:153].reshape(64, 2, 64, 2, 3).mean((1, 3))
    np.testing.assert_array_equal(result, np.floor(mean + 0.5))


@pytest.mark.parametrize(("height", "width"), [(178, 218), (218, 179), (128, 128), (1024, 1024)])
def test_celeba_of_another_size_is_refused(height, width):
    with pytest.raises(ValueError, match=f"{width}×{height} pixels; crop 'celeba' needs"):
        _array(decoding.to_image(np.zeros((height, width, 3), np.uint8)), 64, crop="celeba")


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.T),
        (6, lambda a: np.rot90(a)),
        (7, lambda a: a[::-1, ::-1].T),
        (8, lambda a: np.rot90(a, -1)),
    ],
)
def test_exif_orientation(kind, orientation, stored):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    image = PIL.Image.fromarray(np.ascontiguousarray(stored(QUADRANTS))).convert("RGB")
    options = {"quality": 100} if kind in ("jpeg", "webp") else {}
    result = _array(_reopened(image, kind, exif=exif, **options))
    np.testing.assert_allclose(result[..., 0].astype(int), QUADRANTS, atol=4)  # lossy kinds


def test_exif_orientation_comes_before_the_crop():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # stored turned by 90° counter-clockwise
    rows, columns = np.mgrid[:218, :178].astype(np.uint8)
    upright = np.stack([rows, columns, columns], -1)
    image = decoding.to_image(np.ascontiguousarray(np.rot90(upright)))
    result = _array(_reopened(image, exif=exif), 128, crop="celeba")
    np.testing.assert_array_equal(result, upright[50:178, 25:153])


def test_broken_exif_is_as_if_there_were_none():
    image = decoding.to_image(_random(6, 6))
    result = _array(_reopened(image, exif=b"Exif\0\0no directory at all"))
    np.testing.assert_array_equal(result, np.asarray(image))


def test_grey_and_one_bit_fill_all_channels():
    grey = _random(6, 6, 1)
    np.testing.assert_array_equal(_array(_reopened(decoding.to_image(grey))), grey.repeat(3, -1))
    bits = PIL.Image.fromarray(grey[..., 0] > 127)
    assert _reopened(bits).mode == "1"
    expected = np.where(grey > 127, 255, 0).repeat(3, -1)
    np.testing.assert_array_equal(_array(_reopened(bits)), expected)
    np.testing.assert_array_equal(_array(_reopened(bits), channels=1), expected[..., :1])


def test_one_bit_is_averaged_as_grey():
    bits = PIL.Image.fromarray(np.tile(np.array([True, False]), (4, 2)))
    assert np.all(_array(_reopened(bits), 2) == 128)


def test_colour_to_grey_is_luma():
    primaries = np.zeros((3, 3, 3), np.uint8)
    primaries[np.arange(3), :, np.arange(3)] = 255
    grey = _array(decoding.to_image(primaries), channels=1)
    assert grey.shape == (3, 3, 1)
    np.testing.assert_array_equal(grey[:, 0, 0], np.rint(255 * np.array([0.299, 0.587, 0.114])))


def test_palette():
    image = PIL.Image.new("P", (2, 2))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2, 1])
    expected = [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]]
    for kind in ("png", "gif", "bmp", "tiff"):
        reopened = _reopened(image, kind)
        assert reopened.mode == "P"
        np.testing.assert_array_equal(_array(reopened), expected)


def test_palette_is_averaged_in_colour_not_by_index():
    image = PIL.Image.new("P", (2, 2))
    image.putpalette([100, 0, 0, 9, 9, 9, 200, 0, 0])
    image.putdata([0, 2, 2, 0])
    np.testing.assert_array_equal(_array(_reopened(image), 1), [[[150, 0, 0]]])


def test_transparency_is_put_on_white():
    rgba = np.array([[[200, 100, 0, 255], [200, 100, 0, 0]], [[0, 0, 0, 51], [55, 55, 55, 51]]])
    expected = [[[200, 100, 0], [255, 255, 255]], [[204, 204, 204], [215, 215, 215]]]
    image = PIL.Image.fromarray(rgba.astype(np.uint8))
    for kind in ("png", "tiff"):
        assert _reopened(image, kind).mode == "RGBA"
        np.testing.assert_array_equal(_array(_reopened(image, kind)), expected)
    grey = PIL.Image.fromarray(rgba[..., 2:].astype(np.uint8))
    assert _reopened(grey).mode == "LA"
    np.testing.assert_array_equal(
        _array(_reopened(grey), channels=1)[..., 0], [[0, 255], [204, 215]]
    )


@pytest.mark.parametrize("transparent", [1, bytes([255, 0])])
def test_palette_with_transparency(transparent):
    image = PIL.Image.new("P", (2, 2))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1, 1, 0])
    reopened = _reopened(image, transparency=transparent)
    assert reopened.mode == "P"
    expected = [[[10, 20, 30], [255] * 3], [[255] * 3, [10, 20, 30]]]
    np.testing.assert_array_equal(_array(reopened), expected)


def test_transparent_colour_of_an_rgb_png():
    pixels = np.array([[[1, 2, 3], [4, 5, 6]], [[4, 5, 6], [1, 2, 3]]], np.uint8)
    reopened = _reopened(decoding.to_image(pixels), transparency=(4, 5, 6))
    assert reopened.mode == "RGB"
    expected = [[[1, 2, 3], [255] * 3], [[255] * 3, [1, 2, 3]]]
    np.testing.assert_array_equal(_array(reopened), expected)


def test_cmyk_jpeg():
    colours = np.array([[0, 0, 0, 0], [0, 0, 0, 255], [255, 0, 0, 0], [0, 0, 255, 0]], np.uint8)
    image = PIL.Image.fromarray(np.kron(colours[:, None], np.ones((8, 32, 1), np.uint8)), "CMYK")
    reopened = _reopened(image, "jpeg", quality=100)
    assert reopened.mode == "CMYK"
    expected = [[255, 255, 255], [0, 0, 0], [0, 255, 255], [255, 255, 0]]
    np.testing.assert_allclose(_array(reopened)[4::8, 4].astype(int), expected, atol=3)


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm"])
def test_16_bit_is_scaled_and_rounded(kind):
    values = np.array([[0, 128, 129], [257, 32896, 65406], [65407, 65535, 40000]], np.uint16)
    expected = np.rint(values / 257)
    reopened = _reopened(PIL.Image.fromarray(values), kind)
    assert reopened.mode in ("I", "I;16")
    np.testing.assert_array_equal(_array(reopened, channels=1)[..., 0], expected)
    np.testing.assert_array_equal(_array(reopened)[..., 2], expected)


def test_big_endian_16_bit():
    image = PIL.Image.frombytes("I;16B", (1, 1), b"\x80\x80")
    assert _array(image).ravel().tolist() == [128] * 3


@pytest.mark.parametrize("value", [-1, 65536])
def test_32_bit_beyond_16_is_refused(value):
    image = PIL.Image.fromarray(np.full((2, 2), value, np.int32))
    with pytest.raises(ValueError, match="mode I: values beyond 16 bits"):
        _array(_reopened(image, "tiff"))


def test_floats_are_refused():
    image = PIL.Image.fromarray(np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match="mode F: floating-point"):
        _array(_reopened(image, "tiff"))


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tiff"])
def test_first_frame_of_an_animation(kind):
    frames = [PIL.Image.new("RGB", (4, 4), (value, value, value)) for value in (80, 10, 160)]
    options = {"lossless": True} if kind == "webp" else {}
    reopened = _reopened(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert np.all(_array(reopened) == 80)


def test_path_or_file_and_the_file_is_closed(tmp_path):
    image = decoding.to_image(_random(6, 6))
    path = tmp_path / "a.png"
    image.save(path)
    for file in (path, str(path)):  # an open one would be a ResourceWarning
        np.testing.assert_array_equal(np.asarray(decoding.open_image(file)), np.asarray(image))
    with pytest.raises(FileNotFoundError):
        decoding.open_image(tmp_path / "b.png")


def _jpeg():
    return _file(decoding.to_image(_random(64, 64)), "jpeg").getvalue()


def _eps():
    return _file(PIL.Image.new("RGB", (2, 2)), "eps").getvalue()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (lambda: b"", "not a BMP, GIF, JPEG, PNG, PPM, TIFF or WEBP file"),
        (lambda: b"a text\nof two lines", "not a BMP"),
        (_eps, "not a BMP"),  # Pillow would start Ghostscript
        (lambda: _jpeg()[:-500], "OSError: "),
        (lambda: _jpeg()[:100], "not a BMP|OSError: "),
        (lambda: _file(PIL.Image.new("L", (64, 64)), "png").getvalue()[:60], "OSError|SyntaxError"),
    ],
)
def test_what_is_no_image_is_one_line(content, text):
    with pytest.raises(ValueError, match=f"^({text})") as error:
        decoding.open_image(io.BytesIO(content()))
    assert "\n" not in str(error.value)
    assert "0x" not in str(error.value)


def test_causes_of_several_lines_become_one(monkeypatch):
    def fail(*_, **__):
        raise OSError("first\n  second")

    monkeypatch.setattr(PIL.Image, "open", fail)
    with pytest.raises(ValueError, match=r"^OSError: first second$"):
        decoding.open_image(io.BytesIO())


@pytest.mark.parametrize("kind", ["png", "gif"])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("limit", "good"), [(99, False), (49, False), (100, True)])
def test_decompression_bomb(monkeypatch, kind, limit, good):
    file = _file(PIL.Image.new("L", (10, 10)), kind)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", limit)
    if good:
        assert decoding.open_image(file).size == (10, 10)
        return
    with pytest.raises(ValueError, match=r"^DecompressionBombError: "):
        decoding.open_image(file)
