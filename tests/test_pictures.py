"""The modes that make pictures, from a run's folder alone."""

import re

import numpy as np
import pytest
from PIL import Image

from began_jax import errors, generate, grids, inversion, pictures, pixels, restoring, train
from began_jax.data import order
from tests.conftest import make_config

R = 16


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of six steps with three checkpoints, whose data is an array of 9 images."""
    root = tmp_path_factory.mktemp("pictures")
    images = np.random.default_rng(0).integers(0, 256, (9, R, R, 3), np.uint8)
    np.save(root / "x.npy", images)
    config = make_config(
        data__source="array",
        data__path=str(root / "x.npy"),
        train__checkpoint_every_steps=2,
        train__checkpoints_to_keep=5,
    )
    train.train(config, root / "run")
    return root / "run", images


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def cells(path):
    """A picture of the images' own pixels: it shows each of them four times as wide and high."""
    return read(path)[::4, ::4]


def of_run(images, num):
    return images[order.subset(len(images), num)]


OPTIONS = {"step": None, "seed": 0, "average": True}


def test_samples_are_the_same_as_grid_array_and_files(run, tmp_path):
    workdir, _ = run
    (path,) = pictures.sample(workdir, None, num=5, **OPTIONS)
    grid = cells(path)
    assert grid.shape == (2 * R, 3 * R, 3)
    assert (grid[R:, 2 * R :] == 255).all()  # nothing there
    (path,) = pictures.sample(workdir, tmp_path / "a.npy", num=70, **OPTIONS)
    array = np.load(path)
    assert array.shape == (70, R, R, 3)
    (folder,) = pictures.sample(workdir, tmp_path / "pngs", num=5, **OPTIONS)
    files = sorted(folder.iterdir())
    assert [path.name for path in files] == [f"{i:06d}.png" for i in range(5)]
    for i, path in enumerate(files):
        cell = grid[i // 3 * R : i // 3 * R + R, i % 3 * R : i % 3 * R + R]
        np.testing.assert_array_equal(read(path), array[i])
        np.testing.assert_array_equal(cell, array[i])
    # Those of an earlier, larger number would pass for samples of this checkpoint.
    with pytest.raises(errors.UserError, match="pngs: it is not empty"):
        pictures.sample(workdir, tmp_path / "pngs", num=2, **OPTIONS)


def test_a_pictures_name_tells_it_from_others(run, tmp_path, monkeypatch):
    workdir, images = run
    cases = [
        ({}, "00000006"),
        ({"num": 3, "seed": 0}, "00000006-num3"),
        ({"num": 3, "seed": 7, "average": False}, "00000006-num3-seed7-raw"),
    ]
    for options, name in cases:
        (out,) = pictures.sample(workdir, None, **{**OPTIONS, **options})
        assert out == workdir / "sample" / f"{name}.png"
    (tmp_path / "faces").mkdir()
    for name in ("a", "b"):
        Image.fromarray(images[0]).save(tmp_path / "faces" / f"{name}.png")
    monkeypatch.chdir(tmp_path / "faces")
    names = []
    for given in (".", f"{tmp_path}/faces/", "a.png", "a.png,b.png", "b.png,a.png"):
        (out,) = pictures.reconstruct(workdir, None, step=None, images=given)
        names.append(re.fullmatch("00000006-([a-z]+)-[0-9a-f]{6}.png", out.name))
    assert [name[1] for name in names] == ["faces", "faces", "a", "a", "b"]
    assert len({name[0] for name in names}) == 4


def test_what_the_user_gave_is_not_replaced_by_what_is_made_of_it(run, tmp_path):
    workdir, images = run
    np.savez(tmp_path / "faces.npz", images[:2])
    _, latents = pictures.invert(
        workdir, tmp_path / "faces.png", images=str(tmp_path / "faces.npz"), **OPTIONS
    )
    assert latents == tmp_path / "faces-latents.npz"
    with np.load(tmp_path / "faces.npz") as kept:
        np.testing.assert_array_equal(kept["arr_0"], images[:2])
    Image.fromarray(images[0]).save(tmp_path / "x.png")
    for mode, options in (
        (pictures.reconstruct, {"step": None}),
        (pictures.invert, OPTIONS),
        (pictures.interpolate, {"between": "mirror", "spherical": False, **OPTIONS}),
    ):
        for images in (tmp_path / "x.png", tmp_path):  # by name, and by its folder
            with pytest.raises(errors.UserError, match=r"x\.png is one of --images"):
                mode(workdir, tmp_path / "x.png", **{**options, "images": str(images)})


def test_a_file_that_out_does_not_name_is_not_replaced(run, tmp_path):
    workdir, _ = run
    for mode, name in ((pictures.timeline, "x.webp"), (pictures.invert, "x-latents.npz")):
        (tmp_path / name).write_text("the user's")
        with pytest.raises(errors.UserError, match=f"{name}: must not exist without x.png"):
            mode(workdir, tmp_path / "x.png", seed=0, average=True)
        assert (tmp_path / name).read_text() == "the user's"
    assert not (tmp_path / "x.png").exists()


def test_an_array_that_does_not_fit_on_the_disk_is_an_error_and_leaves_nothing(run, tmp_path):
    """And no SIGBUS, which a memory map would get."""

    def blocks():
        yield np.zeros((1, R, R, 3), np.uint8)
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        pictures._write_array(tmp_path / "x.npy", (2, R, R, 3), blocks())
    assert list(tmp_path.iterdir()) == []


def test_a_step_is_picked_and_the_newest_is_the_default(run, tmp_path):
    workdir, _ = run
    assert restoring.steps(workdir) == [2, 4, 6]
    pictures.sample(workdir, None, **{**OPTIONS, "step": 4})
    pictures.sample(workdir, None, **OPTIONS)
    names = {path.name for path in (workdir / "sample").iterdir()}
    assert {"00000004.png", "00000006.png"} <= names
    assert int(restoring.restore(workdir, 2)[1].step) == 2


def test_reconstructions_stand_beside_the_images(run, tmp_path):
    workdir, images = run
    (out,) = pictures.reconstruct(workdir, None, step=None, images=None, num=4)
    assert out == workdir / "reconstruct" / "00000006-num4.png"
    shown = of_run(images, 4)
    np.testing.assert_array_equal(cells(out)[:R, :R], shown[0])
    np.testing.assert_array_equal(cells(out)[-R:, -2 * R : -R], shown[3])
    config, state = restoring.restore(workdir, None)
    (d_of_x,) = pixels.to_uint8(generate.reconstructed(config, state, shown[:1]))
    np.testing.assert_array_equal(cells(out)[:R, R : 2 * R], d_of_x)
    before = out.read_bytes()

    Image.fromarray(images[5]).save(tmp_path / "5.png")
    (given,) = pictures.reconstruct(workdir, None, step=None, images=str(tmp_path / "5.png"))
    assert given.name.startswith("00000006-5-")
    assert out.read_bytes() == before
    assert cells(given).shape == (R, 2 * R, 3)
    np.testing.assert_array_equal(cells(given)[:, :R], images[5])


def test_inverted_images_and_their_latents_are_written(run, tmp_path, capsys):
    workdir, images = run
    picture, latents = pictures.invert(workdir, tmp_path / "i.png", num=2, **OPTIONS)
    np.testing.assert_array_equal(cells(picture)[:R, :R], of_run(images, 2)[0])
    with np.load(latents) as saved:
        assert saved["z"].shape == (2, 5)
        second = order.subset(len(images), 2)[1]
        assert saved["names"][1] == f"image {second} of the data"
        told = f"{saved['names'][1]}: mean |x - G(z)| = {saved['residuals'][1]:.4f}"
        assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("between", "spherical"),
    [
        ("latents", False),
        ("latents", True),
        ("images", False),
        ("mirror", True),
        pytest.param("images", True, marks=pytest.mark.slow),
        pytest.param("mirror", False, marks=pytest.mark.slow),
    ],
)
def test_an_interpolation_goes_from_one_end_to_the_other(run, between, spherical):
    workdir, images = run
    options = {"num": 2, "columns": 3, "spherical": spherical, "between": between, **OPTIONS}
    (out,) = pictures.interpolate(workdir, None, **options)
    kind = f"{between}-spherical" if spherical else between
    assert out == workdir / "interpolate" / f"00000006-{kind}-num2-columns3.png"
    picture = cells(out)
    config, state = restoring.restore(workdir, None)
    if between == "latents":
        z = generate.latents(config, 0, range(4))
        a, b = z[::2], z[1::2]
    else:
        x = of_run(images, 4 if between == "images" else 2)
        ends = [x[::2], x[1::2]] if between == "images" else [x, x[:, :, ::-1]]
        partners = np.stack(ends, axis=1).reshape(-1, R, R, 3)
        z = inversion.invert(config, state, partners, seed=0).z
        a, b = z[::2], z[1::2]
        np.testing.assert_array_equal(picture[:, :R], np.concatenate(list(ends[0])))
        np.testing.assert_array_equal(picture[:, -R:], np.concatenate(list(ends[1])))
        # Between the ends and the row is a gap of two pixels.
        picture = read(out)[::4, 4 * R + 8 : 4 * 4 * R + 8 : 4]
    z = generate.interpolate(a, b, 3, spherical=spherical)
    expected = [generate.from_latents(config, state, row) for row in z]
    np.testing.assert_array_equal(picture, grids.table(np.stack(expected)))


def test_the_last_of_an_odd_number_of_images_is_left_out(run, tmp_path):
    workdir, images = run
    np.save(tmp_path / "three.npy", images[:3])
    options = {"num": 2, "columns": 2, "spherical": False, **OPTIONS}
    given = {"between": "images", "images": str(tmp_path / "three.npy")}
    (out,) = pictures.interpolate(workdir, tmp_path / "i.png", **given, **options)
    picture = cells(out)
    assert picture.shape == (R, 4 * R + 4, 3)
    np.testing.assert_array_equal(picture[:, :R], images[0])
    np.testing.assert_array_equal(picture[:, -R:], images[1])

    np.save(tmp_path / "one.npy", images[:1])
    given["images"] = str(tmp_path / "one.npy")
    with pytest.raises(errors.UserError, match="two images or more are needed"):
        pictures.interpolate(workdir, None, **given, **options)


def test_the_timeline_has_a_column_and_a_frame_for_each_checkpoint(run, tmp_path, monkeypatch):
    workdir, _ = run
    captioned = []
    drawn = pictures._captioned

    def noting(picture, size, captions):
        captioned.append((picture, captions))
        return drawn(picture, size, captions)

    monkeypatch.setattr(pictures, "_captioned", noting)
    png, webp = pictures.timeline(workdir, tmp_path / "t.png", num=2, seed=3, average=False)
    assert read(png).shape[1] == 3 * 64
    assert (read(png)[2 * 64 :] < 128).any()  # the captions' letters
    with Image.open(webp) as animation:
        assert animation.n_frames == 3

    (whole, captions), *_ = captioned
    records = {record["step"]: record for record in restoring.records(workdir)}
    for column, step in enumerate([2, 4, 6]):
        config, state = restoring.restore(workdir, step)
        (samples,) = generate.samples(config, state, 2, seed=3, average=False)
        shown = whole[:, column * R : column * R + R]
        np.testing.assert_array_equal(shown, np.concatenate(list(samples)))
        assert captions[column].splitlines() == [
            f"{step}",
            f"M {records[step]['m_global']:.4f}",
            f"L(x) {records[step]['loss_real']:.4f}",
            f"L(G) {records[step]['loss_fake']:.4f}",  # records and checkpoints: every two steps
            f"k {records[step]['k']:.4f}",
        ]


def test_what_cannot_be_used_is_told_in_one_line(run, tmp_path):
    workdir, _ = run
    (tmp_path / "text.png").write_text("no image")
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = {
        "no checkpoint of step 3; there are [2, 4, 6]": lambda: pictures.sample(
            workdir, None, num=2, **{**OPTIONS, "step": 3}
        ),
        "text.png: not a BMP": lambda: pictures.reconstruct(
            workdir, None, step=None, images=str(tmp_path / "text.png"), num=2
        ),
        "a .png is needed": lambda: pictures.timeline(
            workdir, tmp_path / "t.gif", num=2, seed=0, average=True
        ),
    }
    for message, use in cases.items():
        with pytest.raises(errors.UserError) as raised:
            use()
        assert message in str(raised.value)
        assert len(str(raised.value).splitlines()) == 1
    with pytest.raises(errors.UserError, match=r"config\.json: not there"):
        pictures.sample(empty, None, num=2, **OPTIONS)


def test_a_run_without_checkpoints_is_told(run, tmp_path):
    workdir, _ = run
    (tmp_path / "config.json").write_text((workdir / "config.json").read_text())
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(errors.UserError, match="no readable checkpoint"):
        pictures.sample(tmp_path, None, num=2, **OPTIONS)
    with pytest.raises(errors.UserError, match="no readable checkpoint"):
        pictures.timeline(tmp_path, None, num=2, seed=0, average=True)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_where_d_s_encoder_inverts_g_its_images_stand_between(tmp_path, capsys):
    config = make_config(model__n_h=5, objective__name="began_cs", train__num_steps=2)
    train.train(config, tmp_path / "run")
    picture, latents = pictures.invert(tmp_path / "run", num=1, **OPTIONS)
    assert cells(picture).shape == (R, 3 * R, 3)
    with np.load(latents) as saved:
        assert saved["z_encoded"].shape == saved["z"].shape == (1, 5)
        assert f"by Enc {saved['residuals_encoded'][0]:.4f}" in capsys.readouterr().out


def test_a_critic_has_samples_and_no_reconstructions(tmp_path):
    train.train(make_config(objective__name="hinge", train__num_steps=2), tmp_path / "run")
    pictures.sample(tmp_path / "run", num=2, **OPTIONS)
    with pytest.raises(errors.UserError, match=r"its D \('hinge'\) is a critic"):
        pictures.reconstruct(tmp_path / "run")
