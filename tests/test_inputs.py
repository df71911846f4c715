"""The user's images for a mode: of every kind, at the run's size."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from began_jax import errors, inputs
from tests.conftest import make_config

R = 16
CELEBA = make_config(data__crop="celeba")


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, R, R, 3), np.uint8)


@pytest.fixture
def folder(tmp_path, images):
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def test_folder_zip_array_and_files_give_the_same_images(tmp_path, folder, images):
    paths = sorted(folder.glob("*.png"))
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in paths:
            archive.write(path, path.name)
    np.save(tmp_path / "photos.npy", images)
    np.savez(tmp_path / "photos.npz", images)
    names = ["photos", "photos.zip", "photos.npy", "photos.npz"]
    values = [*(str(tmp_path / name) for name in names), ",".join(map(str, paths)) + ","]
    for value in values:
        # Of the run's size they are taken as they are, though the run's crop needs others.
        names, found = inputs.given(CELEBA, value, None)
        np.testing.assert_array_equal(found, images)
        assert len(set(names)) == 3
        np.testing.assert_array_equal(inputs.given(CELEBA, value, 2)[1], images[:2])
    assert inputs.given(CELEBA, str(folder), 2)[0] == ["0.png", "1.png"]


def test_images_of_another_size_are_cropped_as_the_runs_data_are(tmp_path):
    aligned = np.zeros((218, 178, 3), np.uint8)
    aligned[50:178, 25:153] = 200  # the crop's box
    Image.fromarray(aligned).save(tmp_path / "face.png")
    np.save(tmp_path / "faces.npy", aligned[None])
    for name in ("face.png", "faces.npy"):
        _, (found,) = inputs.given(CELEBA, str(tmp_path / name), None)
        assert found.shape == (R, R, 3)
        assert (found == 200).all()


def test_what_is_wrong_is_told_of_the_flag(tmp_path, folder, images):
    (folder / "3.png").write_bytes((folder / "0.png").read_bytes()[:100])
    np.save(tmp_path / "small.npy", images[:, :8])
    Image.fromarray(images[0]).resize((100, 100)).save(tmp_path / "100.png")
    np.savez(tmp_path / "two.npz", a=images, b=images)
    cases = {
        "photos": f"--images: {folder}: 3.png: ",
        "small.npy": f"--images={tmp_path / 'small.npy'}: uint8 (3, 8, 16, 3); uint8 (N, H, W, 3)",
        "100.png": "100.png: 100×100 pixels; crop 'celeba' needs aligned 178×218",
        "absent.npy": f"--images={tmp_path / 'absent.npy'}: no such file",
        "two.npz": f"--images={tmp_path / 'two.npz'}: one of the arrays of ",
        "absent": f"--images: {tmp_path / 'absent'}: No such file or directory",
    }
    for name, message in cases.items():
        with pytest.raises(errors.UserError) as raised:
            inputs.given(CELEBA, str(tmp_path / name), None)
        assert message in str(raised.value)
        assert len(str(raised.value).splitlines()) == 1
    np.testing.assert_array_equal(inputs.given(CELEBA, str(folder), 3)[1], images)
