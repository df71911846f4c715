import errno
import os
import shutil

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from began_jax import checkpoints, sharding
from began_jax.checkpoints import CheckpointError, Checkpoints
from tests.conftest import make_config

DEVICES = jax.devices()


def setup(num_devices=1, **overrides):
    config = make_config(**overrides)
    mesh = sharding.make_mesh(config.train.batch_size, DEVICES[:num_devices])
    return sharding.init_state(config, mesh), sharding.abstract_state(config, mesh)


def save(directory, state, steps, **options):
    with Checkpoints(directory, **{"to_keep": 9, **options}) as saved:
        for step in steps:
            saved.save(step, state.replace(step=state.step * 0 + step))


def test_what_is_restored_is_what_was_saved(tmp_path):
    state, target = setup()
    save(tmp_path, state, [0])
    with Checkpoints(tmp_path) as saved:
        restored = saved.restore(target)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert checkpoints.fingerprint(restored) == checkpoints.fingerprint(state)


def test_a_state_may_be_donated_right_after_save_returns(tmp_path):
    state, target = setup()
    expected = checkpoints.fingerprint(state)
    with Checkpoints(tmp_path, to_keep=1) as saved:
        saved.save(0, state)
        overwrite = jax.jit(lambda s: jax.tree.map(lambda leaf: leaf * 0, s), donate_argnums=0)
        overwrite(state)
    with Checkpoints(tmp_path) as saved:
        assert checkpoints.fingerprint(saved.restore(target)) == expected


def test_the_newest_and_the_multiples_are_kept(tmp_path):
    state, _ = setup()
    save(tmp_path, state, range(1, 9), to_keep=2, keep_every_steps=3)
    with Checkpoints(tmp_path) as saved:
        assert saved.steps() == [3, 6, 7, 8]


def test_a_step_can_be_asked_for(tmp_path):
    state, target = setup()
    save(tmp_path, state, [1, 2])
    with Checkpoints(tmp_path) as saved:
        assert int(saved.restore(target).step) == 2
        assert int(saved.restore(target, 1).step) == 1
        with pytest.raises(CheckpointError, match=r"no checkpoint of step 3; there are \[1, 2\]"):
            saved.restore(target, 3)


def damage(directory):
    for path in directory.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_damaged_checkpoint_is_passed_over_unless_it_was_asked_for(tmp_path):
    state, target = setup()
    save(tmp_path, state, [1, 2])
    damage(tmp_path / "2")
    (tmp_path / "3").mkdir()  # Orbax takes an empty folder for a step
    with Checkpoints(tmp_path) as saved:
        assert int(saved.restore(target).step) == 1
        with pytest.raises(CheckpointError, match="checkpoint 2 cannot be read"):
            saved.restore(target, 2)
    damage(tmp_path / "1")
    with Checkpoints(tmp_path) as saved, pytest.raises(CheckpointError, match="no readable"):
        saved.restore(target)


def test_where_none_can_be_read_none_is_moved(tmp_path, monkeypatch):
    """The disk may be well again in a minute."""
    directory = tmp_path / "checkpoints"
    state, target = setup()
    save(directory, state, [1, 2])
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_read", lambda *_: (_ for _ in ()).throw(OSError("EIO")))
        with (
            Checkpoints(directory, to_keep=9) as saved,
            pytest.raises(CheckpointError, match="no readable checkpoint"),
        ):
            saved.restore(target)
    with Checkpoints(directory, to_keep=9) as saved:
        assert saved.steps() == [1, 2]
        assert int(saved.restore(target).step) == 2
    assert not (tmp_path / "damaged-checkpoints").exists()


def test_the_newest_up_to_the_last_good_step_is_kept(tmp_path):
    state, _ = setup()
    with Checkpoints(tmp_path, to_keep=2) as saved:
        for step, good_step in [(1, 1), (3, 3), (5, 4), (7, 4), (9, 4), (11, 10), (13, 10)]:
            saved.save(step, state.replace(step=jnp.int32(step)), [good_step])
    with Checkpoints(tmp_path) as saved:
        assert saved.steps() == [9, 11, 13]


def test_a_save_that_failed_is_told_when_it_is_waited_for(tmp_path, monkeypatch):
    state, target = setup()
    with Checkpoints(tmp_path, to_keep=2) as saved:
        saved.save(1, state)
        saved.wait()
        with monkeypatch.context() as patch:
            patch.setattr(
                saved._manager,
                "wait_until_finished",
                lambda: (_ for _ in ()).throw(ValueError("No space left on device (ENOSPC)")),
            )
            for use in (saved.wait, lambda: saved.restore(target)):
                with pytest.raises(CheckpointError, match="the last save failed: No space left"):
                    use()


def test_a_flipped_bit_is_never_restored(tmp_path):
    """Orbax itself sees some, in some files; others hold nothing that is read."""
    state, target = setup()
    save(tmp_path / "whole", state, [1, 2])
    fingerprints = {
        step: checkpoints.fingerprint(state.replace(step=jnp.int32(step))) for step in (1, 2)
    }
    paths = [path for path in (tmp_path / "whole" / "2").rglob("*") if path.is_file()]
    restored_steps = []
    for i, path in enumerate(sorted(paths)):
        directory = tmp_path / str(i)
        shutil.copytree(tmp_path / "whole", directory)
        content = bytearray(path.read_bytes())
        if not content:
            continue
        content[np.random.default_rng(i).integers(len(content))] ^= 16
        (directory / path.relative_to(tmp_path / "whole")).write_bytes(content)
        with Checkpoints(directory) as saved:
            restored = saved.restore(target)
        step = int(restored.step)
        assert checkpoints.fingerprint(restored) == fingerprints[step], path
        restored_steps.append(step)
    assert restored_steps.count(1) >= 4


def test_a_file_that_is_missing_is_never_missed_in_silence(tmp_path):
    state, target = setup()
    save(tmp_path / "whole", state, [1, 2])
    expected = {s: checkpoints.fingerprint(state.replace(step=jnp.int32(s))) for s in (1, 2)}
    paths = [path for path in (tmp_path / "whole" / "2").rglob("*") if path.is_file()]
    restored_steps = []
    for i, path in enumerate(sorted(paths)):
        directory = tmp_path / str(i)
        shutil.copytree(tmp_path / "whole", directory)
        (directory / path.relative_to(tmp_path / "whole")).unlink()
        with Checkpoints(directory) as saved:
            restored = saved.restore(target)
        assert checkpoints.fingerprint(restored) == expected[int(restored.step)], path
        restored_steps.append(int(restored.step))
    assert restored_steps.count(1) >= 3


def test_other_bytes_than_were_saved_are_seen_by_their_digest(tmp_path):
    state, target = setup()
    save(tmp_path, state, [1, 2])
    digest = tmp_path / "2" / "digest" / "metadata"
    digest.write_text('{"sha256": "0"}')
    with Checkpoints(tmp_path) as saved:
        assert int(saved.restore(target).step) == 1
        with pytest.raises(CheckpointError, match="its bytes are not those that were saved"):
            saved.restore(target, 2)


def test_a_run_goes_on_saving_past_a_damaged_checkpoint(tmp_path):
    directory = tmp_path / "checkpoints"
    state, target = setup()
    save(directory, state, [1, 4])
    damage(directory / "4")
    (directory / "9").mkdir()
    with Checkpoints(directory, to_keep=9) as saved:
        assert int(saved.restore(target).step) == 1
    save(directory, state, [3, 4])
    with Checkpoints(directory) as saved:
        assert saved.steps() == [1, 3, 4]
        assert int(saved.restore(target).step) == 4
    put_away = sorted(path.name[:2] for path in (tmp_path / "damaged-checkpoints").iterdir())
    assert put_away == ["4-", "9-"]


def test_a_damaged_checkpoint_is_put_away_from_another_disk_too(tmp_path, monkeypatch):
    state, target = setup()
    save(tmp_path / "checkpoints", state, [1, 4])
    damage(tmp_path / "checkpoints" / "4")

    def rename(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    with Checkpoints(tmp_path / "checkpoints", to_keep=9) as saved:
        monkeypatch.setattr(os, "rename", rename)
        assert int(saved.restore(target).step) == 1
        monkeypatch.undo()
        assert saved.steps() == [1]
    (apart,) = (tmp_path / "damaged-checkpoints").iterdir()
    assert (apart / "state").is_dir()


def test_a_step_that_orbax_does_not_take_is_an_error(tmp_path):
    state, _ = setup()
    save(tmp_path, state, [5])
    with Checkpoints(tmp_path, to_keep=9) as saved:
        saved.save(5, state)  # there already
        with pytest.raises(CheckpointError, match=r"step 3 is not saved, as there are \[5\]"):
            saved.save(3, state)


@pytest.mark.parametrize("is_link", [False, True])
def test_a_folder_that_is_no_checkpoint_is_not_deleted_as_one(tmp_path, is_link):
    """Orbax takes every folder whose name is a number for a checkpoint."""
    directory, photos = tmp_path / "checkpoints", tmp_path / "photos"
    state, target = setup()
    save(directory, state, [10])
    photos.mkdir()
    (photos / "a.png").touch()
    if is_link:
        (directory / "7").symlink_to(photos)
    else:
        photos.rename(directory / "7")
    for name in ("007", "photos"):  # Orbax passes these over
        (directory / name).mkdir()
        (directory / name / "a.png").touch()
    before = sorted(directory.rglob("*"))
    with pytest.raises(CheckpointError) as refused:
        save(directory, state, [20, 30], to_keep=1)
    assert str(refused.value) == f"{directory / '7'}: must be a checkpoint. Move it elsewhere."
    assert sorted(directory.rglob("*")) == before
    with Checkpoints(directory) as saved:
        assert int(saved.restore(target).step) == 10


def test_reading_leaves_a_folder_as_it_is(tmp_path):
    state, _ = setup()
    save(tmp_path, state, [1, 2, 3])
    (tmp_path / "4.orbax-checkpoint-tmp").mkdir()  # another process may be writing it
    before = sorted(tmp_path.rglob("*"))
    with Checkpoints(tmp_path) as saved:
        assert saved.steps() == [1, 2, 3]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("save_on", "restore_on"), [(4, 1), (1, 4)])
def test_the_fingerprint_is_the_same_on_every_number_of_devices(tmp_path, save_on, restore_on):
    state, _ = setup(save_on)
    save(tmp_path, state, [0])
    _, target = setup(restore_on)
    with Checkpoints(tmp_path) as saved:
        restored = saved.restore(target)
    assert len(restored.step.sharding.device_set) == restore_on
    assert checkpoints.fingerprint(restored) == checkpoints.fingerprint(state)


def test_the_fingerprint_sees_every_leaf():
    state, _ = setup()
    leaves, treedef = jax.tree.flatten(state)
    seen = {checkpoints.fingerprint(state)}
    for i in range(len(leaves)):
        changed = [*leaves[:i], jnp.full_like(leaves[i], 7), *leaves[i + 1 :]]
        seen.add(checkpoints.fingerprint(jax.tree.unflatten(treedef, changed)))
    assert len(seen) == len(leaves) + 1
