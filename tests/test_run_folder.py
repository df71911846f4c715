"""Files of the user in a run's place, in a run's folder and in --out: none is lost."""

import ast
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from began_jax import (
    errors,
    evaluate,
    files,
    pictures,
    run_folder,
    telemetry,
    train,
)
from began_jax.metrics import networks
from launch import report, run_folders, study, sweep
from tests.conftest import ROOT, make_config
from tests.test_study import write_runs, write_study

PICTURE = b"a picture of the user's"
# Names of other files that the project writes, and of an ordinary folder.
OTHERS = (".lock", "log.txt", "study.json", "results.json", "figure.png", "runs.csv", "notes.txt")
# How ml_collections loads a config file.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


def snapshot(root):
    """Return every path below `root` with its bytes or the target of its link."""
    found = {}
    for path in sorted(root.rglob("*")):
        is_file = path.is_file() and not path.is_symlink()
        content = path.read_bytes() if is_file else None
        found[path] = os.readlink(path) if path.is_symlink() else content
    return found


def put_file(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PICTURE)


def put_folder(path):
    for name in ("20240501.png", "000000024.png", "7/a.png", "x.json", "events.out.tfevents.1.me"):
        put_file(path / name)


def put_link(path):
    """Link to a folder that is not in the run's."""
    outside = path.parents[1] / "outside" / path.name
    put_folder(outside)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(outside)


def put_dangling_link(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path.parents[1] / "nowhere")


PUT = (put_file, put_folder, put_link, put_dangling_link)


def array_config(root, **overrides):
    if not (root / "x.npy").exists():
        np.save(root / "x.npy", np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), "u1"))
    return make_config(data__source="array", data__path=str(root / "x.npy"), **overrides)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of six steps in a folder that had other files; these files."""
    root = tmp_path_factory.mktemp("run_folder")
    config = array_config(root, train__checkpoint_every_steps=2, train__checkpoints_to_keep=3)
    for name in (*OTHERS, ".config.json.0123456789abcdef0123456789abcdef", "Samples/1.png"):
        put_file(root / "run" / name)
    put_folder(root / "run" / "photos")
    put_link(root / "run" / "album")
    before = snapshot(root)
    train.train(config, root / "run")
    return root, config, before


@pytest.fixture
def run(finished, tmp_path):
    root, config, _ = finished
    return shutil.copytree(root / "run", tmp_path / "run", symlinks=True), config


@pytest.mark.parametrize("put", PUT)
@pytest.mark.parametrize("name", run_folder.NAMES)
def test_a_folder_that_no_run_wrote_is_refused_and_stays_as_it_is(tmp_path, name, put):
    put(tmp_path / "photos" / name)
    before = snapshot(tmp_path)
    with pytest.raises(errors.UserError) as refused:
        train.train(make_config(), tmp_path / "photos")
    shown = f"{name}/" if put in (put_folder, put_link) else name
    assert str(refused.value) == (
        f"--workdir={tmp_path / 'photos'}: holds {shown} but no config.json, so no run wrote it. "
        "Choose another --workdir."
    )
    assert snapshot(tmp_path) == before


def test_every_command_leaves_the_users_files_as_they_are(run, tmp_path, monkeypatch, capsys):
    """All names that the project writes, as files, folders and links, for every command."""
    monkeypatch.chdir(ROOT)
    workdir, _ = run
    options = {"seed": 0, "average": True}
    between = {"between": "latents", "spherical": False}
    evaluated = {
        "average": True,
        "network": networks.load("random_conv", None),
        "num": 1000,
        "seeds": [0],
    }
    of_study = write_runs(tmp_path / "drawn")
    ran = write_study(tmp_path / "study")
    small = ["--config=configs/demo.py", "--run=local"]
    commands = {
        "train": lambda folder: train.train(make_config(), folder),
        "sweep": lambda folder: sweep.main([*small, f"--workdir={folder.parent}"]),
        "study": lambda folder: study.main([ran[0], f"--workdir={folder}", "--run=local"]),
        "draw": lambda folder: study.main([*of_study, "--draw", f"--out={folder}"]),
        "report": lambda folder: report.main([str(workdir), f"--out={folder}"]),
        "sample": lambda folder: pictures.sample(folder, **options),
        "reconstruct": lambda folder: pictures.reconstruct(folder),
        "invert": lambda folder: pictures.invert(folder, **options),
        "interpolate": lambda folder: pictures.interpolate(folder, **between, **options),
        "timeline": lambda folder: pictures.timeline(folder, **options),
        "evaluate": lambda folder: next(evaluate.evaluate(folder, **evaluated)),
        "sample --out": lambda folder: pictures.sample(workdir, folder, **options),
        "timeline --out": lambda folder: pictures.timeline(workdir, folder / "a.png", **options),
        "invert --out": lambda folder: pictures.invert(workdir, folder / "a.png", **options),
    }
    for put in PUT:
        # The name of the sweep's only run.
        folder = tmp_path / put.__name__ / "seed=0"
        for name in (*run_folder.NAMES, *OTHERS):
            put(folder / name)
        for name in ("a.webp", "a-latents.npz"):  # next to a.png, which --out names
            put_file(folder / name)
        before = snapshot(tmp_path)
        for name, command in commands.items():
            try:
                status = command(folder)
            except (errors.UserError, OSError) as error:
                status, told = 2, str(error)
            else:
                told = capsys.readouterr().err
            assert status == 2, (name, put)
            assert len(told.splitlines()) == 1, (name, told)
            capsys.readouterr()
            assert snapshot(tmp_path) == before, (name, put)


def test_an_ordinary_folder_may_be_used_and_keeps_its_files(finished):
    root, _, before = finished
    after = snapshot(root)
    assert before.items() <= after.items()
    new = {path.relative_to(root / "run").parts[0] for path in after.keys() - before.keys()}
    assert new <= {"config.json", *run_folder.NAMES}


def test_the_users_files_in_a_runs_folder_are_left_alone(run, tmp_path):
    """Also where the checkpoints are on another disk."""
    workdir, _ = run
    (workdir / "checkpoints").rename(tmp_path / "disk")
    (workdir / "checkpoints").symlink_to(tmp_path / "disk")
    names = [
        *("samples/mine.png", "samples/20240501.png", "samples/24.png", "samples/000000025.png"),
        *("samples/000000032.jpg", "samples/000000032.png.bak", "tensorboard/mine.txt"),
        *("tensorboard/eval-x/mine.txt", "tensorboard/eval-x/events.out.tfevents.1.me"),
        *("eval/mine.json", "sample/mine.png", "rolled-back-checkpoints/a.png"),
        *("checkpoints/notes.txt", "checkpoints/photos/a.png", "checkpoints/007/a.png"),
        *(".samples.png", ".metrics.jsonl.mine", "timeline.gif"),
    ]
    mine = [workdir / name for name in names]
    for path in mine:
        put_file(path)
    put_file(tmp_path / "outside.png")
    (workdir / "samples" / "000000040.png").symlink_to(tmp_path / "outside.png")
    (workdir / "samples" / "000000044.png").mkdir()

    shutil.rmtree(workdir / "checkpoints" / "6")
    assert run_folder.sample_grids(workdir).keys() == {24, 25, 40}
    options = {"train__checkpoint_every_steps": 2, "train__checkpoints_to_keep": 1}
    train.train(array_config(tmp_path, train__num_steps=5, **options), workdir)
    assert run_folder.sample_grids(workdir).keys() == {20, 25, 40}  # that of step 6 was dropped
    assert {path.name for path in (tmp_path / "disk").iterdir()} == {
        *("5", "notes.txt", "photos", "007")
    }
    for step in (4, 5):
        telemetry.write_evaluations(workdir, "x", {step: {"recall": 0.5}})
    for mode in (pictures.sample, pictures.timeline):
        mode(workdir, seed=0, average=True)
    assert [path for path in mine if path.read_bytes() != PICTURE] == []
    assert (workdir / "samples" / "000000040.png").read_bytes() == PICTURE
    assert (workdir / "samples" / "000000044.png").is_dir()
    events = [path.name for path in (workdir / "tensorboard" / "eval-x").iterdir()]
    assert len(events) == 2 + 1  # one of the run's, whatever was evaluated before


def test_pictures_that_are_no_grids_are_not_shown_as_such(run):
    workdir, _ = run
    for name in ("20240501.png", "99999999999.jpg"):
        put_file(workdir / "samples" / name)
    assert run_folders.read(workdir, "run").grid.name == "000000024.png"


@pytest.mark.parametrize("name", ["samples", "metrics.jsonl", "config.json", "eval", "sample"])
def test_a_link_in_a_runs_folder_is_refused(run, tmp_path, name):
    """As it may come with a run that was unpacked from an archive."""
    workdir, config = run
    target = tmp_path / "album" / name
    target.parent.mkdir()
    if (workdir / name).exists():
        (workdir / name).rename(target)
    else:
        put_folder(target)
    (workdir / name).symlink_to(target)
    before = snapshot(tmp_path)
    message = f"{workdir / name}: must not be a symbolic link. Replace it with what it links to."
    with pytest.raises(errors.UserError) as refused:
        train.train(config, workdir)
    assert str(refused.value) == message
    with pytest.raises(errors.UserError) as refused:
        pictures.sample(workdir, seed=0, average=True)
    assert str(refused.value) == message
    assert snapshot(tmp_path) == before


def test_checkpoints_may_be_on_another_disk_but_not_in_another_run(run, tmp_path):
    workdir, config = run
    new, disk = tmp_path / "new", tmp_path / "other" / "checkpoints"
    new.mkdir()
    disk.mkdir(parents=True)
    (new / "checkpoints").symlink_to(disk)
    run_folder.check(new, config)
    put_file(disk / "notes.txt")
    with pytest.raises(errors.UserError, match="holds checkpoints/ but no config"):
        run_folder.check(new, config)
    shutil.copy(workdir / "config.json", new)
    run_folder.check(new, config)
    shutil.copy(workdir / "config.json", disk.parent)
    with pytest.raises(errors.UserError, match="checkpoints: must not be a symbolic link"):
        run_folder.check(new, config)
    (new / "checkpoints").unlink()
    (new / "tensorboard").symlink_to("tensorboard")  # circular
    with pytest.raises(errors.UserError, match="tensorboard: must not be a symbolic link"):
        run_folder.check(new, config)


def test_an_interrupted_start_leaves_nothing_that_blocks_the_next(tmp_path, monkeypatch):
    config, workdir = array_config(tmp_path), tmp_path / "run"
    replace, files_written = os.replace, []

    def interrupted(source, target):
        if len(files_written) == most:
            raise KeyboardInterrupt
        replace(source, target)
        files_written.append(target.name)

    monkeypatch.setattr(files.os, "replace", interrupted)
    for most in (0, 1):  # noqa: B007 (read by `interrupted`)
        with pytest.raises(KeyboardInterrupt):
            train.train(config, workdir)
        run_folder.check(workdir, config)
    assert files_written == ["config.json"]
    assert {path.name for path in workdir.iterdir()} == {".lock", "config.json"}


def test_the_names_of_a_run_are_those_in_the_code():
    """`workdir / "name"`, wherever it is written."""
    found = set()
    for path in [*(ROOT / "began_jax").rglob("*.py"), *(ROOT / "launch").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                of, name = ast.unparse(node.left), node.right
                if of.endswith(("workdir", "directory.parent")) and isinstance(name, ast.Constant):
                    found.add(name.value)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".put_away"):
                found.add(ast.literal_eval(node.args[1]))
    modes = {"sample", "reconstruct", "invert", "interpolate"}
    # Written by `pictures` under a mode's name, and by studies.
    named = {*modes, "timeline.png", "timeline.webp", "study"}
    assert found - {"config.json"} == set(run_folder.NAMES) - named


@pytest.mark.parametrize(
    ("program", "name", "message"),
    [
        ("main.py", "samples", "holds samples/ but no config.json, so no run wrote it. "),
        ("launch/sweep.py --run=local", ".lock", ".lock: must not be a symbolic link. "),
    ],
)
def test_the_program_itself_ends_in_one_line(tmp_path, program, name, message):
    workdir = tmp_path / "photos"
    put_link(workdir / name)
    before = snapshot(tmp_path)
    command = [sys.executable, *program.split(), "--config=configs/demo.py"]
    done = subprocess.run(
        [*command, f"--workdir={workdir}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1"},
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert snapshot(tmp_path) == before
