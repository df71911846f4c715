import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from began_jax import event_files, health, provenance, telemetry
from tests.conftest import ROOT, make_config

SCALARS = {
    "loss_real": 0.5,
    "loss_fake": 0.25,
    "k": 0.1,
    "m_global": 0.5,
    "learning_rate": 1e-4,
    "sample_spread": 0.9,
    "images_per_second": 8.0,
}


def images(value):
    return np.full((4, 16, 16, 3), value, np.uint8)


def write(workdir, steps, start_step=0):
    with telemetry.Telemetry(workdir, make_config(), start_step) as records:
        for step in steps:
            records.write_scalars(step, 2, SCALARS, {})
        records.write_grids(steps[-1], images(10), images(20), images(30))


def read_jsonl(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_line_a_record_with_steps_and_images(tmp_path, capfd):
    write(tmp_path, [2, 4])
    assert read_jsonl(tmp_path) == [
        {"step": s, "num_steps": 2, "images": 4 * s, **SCALARS} for s in (2, 4)
    ]
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("step 2/6 img/s 8 L(x) 0.5000 L(G) 0.2500 k 0.1000 M 0.5000")
    assert lines[0].endswith("ETA 00:02")  # 4 steps of 4 images at 8 images a second


def test_a_resumed_run_drops_what_the_cut_off_one_wrote_later(tmp_path):
    write(tmp_path, [2, 4, 6])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "ima')  # killed while writing
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b"\n5\n{}\n\xff\n")  # and a disk that failed
    (tmp_path / "samples" / "mine.png").write_text("another's")
    for images_seen in (16, 20):
        (tmp_path / "samples" / f"{images_seen:09d}.png").write_text("a grid")
    write(tmp_path, [6], start_step=4)
    names = {path.name for path in (tmp_path / "samples").iterdir()}
    assert names == {"mine.png", "000000016.png", "000000024.png"}  # the last is new
    assert [record["step"] for record in read_jsonl(tmp_path)] == [2, 4, 6]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("m_global")] == [2, 4, 6]


def test_tensorboard_gets_scalars_grids_and_hyperparameters(tmp_path):
    write(tmp_path, [2])
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    tags = events.Tags()
    assert set(SCALARS) <= set(tags["scalars"])
    assert {"samples", "real", "reconstructions"} <= set(tags["images"])
    (event,) = events.Images("samples")
    assert (event.width, event.height) == (32, 32)
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"model.resolution" in content


def test_an_alarm_is_told_once_and_stands_in_every_record(tmp_path, capfd):
    with telemetry.Telemetry(tmp_path, make_config(), 0) as records:
        for step, alarms in ((2, {}), (4, {"collapse": "alike"}), (5, {"collapse": "alike"})):
            records.write_scalars(step, 2, SCALARS, alarms)
        records.write_scalars(6, 2, SCALARS, {})
        records.write_alarms(6, {"not_finite": "loss_real is nan at step 6"})
    lines = read_jsonl(tmp_path)
    assert [line.get("alarms") for line in lines] == [
        *(None, ["collapse"], ["collapse"], None, ["not_finite"])
    ]
    told = capfd.readouterr().err.splitlines()
    assert [line for line in told if line.lower().startswith("alarm")] == [
        "ALARM collapse, step 4: alike. What to try: " + health.ALARMS["collapse"].remedy,
        "alarm collapse is over, step 6",
        "ALARM not_finite, step 6: loss_real is nan at step 6. What to try: "
        + health.ALARMS["not_finite"].remedy,
    ]
    assert sum("ALARM collapse ETA" in line for line in told) == 2
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("alarm/collapse")] == [0, 1, 1, 0, 0]
    assert [event.value for event in events.Scalars("alarm/not_finite")] == [0, 0, 0, 0, 1]


def test_a_run_goes_on_without_tensorboard(tmp_path, capfd):
    (tmp_path / "tensorboard").write_text("no folder")
    write(tmp_path, [2, 4])
    assert [line["alarms"] for line in read_jsonl(tmp_path)] == [["tensorboard"]] * 2
    lines = capfd.readouterr().err.splitlines()
    assert sum("ALARM tensorboard ETA" in line for line in lines) == 2
    told = [line for line in lines if line.startswith("ALARM")]
    assert len(told) == 1
    assert told[0].startswith("ALARM tensorboard: ")
    assert told[0].endswith("training goes on")


def test_a_full_disk_ends_tensorboard_and_not_the_run(tmp_path, capfd, monkeypatch):
    with telemetry.Telemetry(tmp_path, make_config(), 0) as records:
        records.write_scalars(2, 2, SCALARS, {})

        def full(self, event):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(event_files.event_file_writer.EventsWriter, "write_event", full)
        records.write_scalars(4, 2, SCALARS, {})
        records.write_grids(4, images(10), images(20), images(30))
    assert [line.get("alarms") for line in read_jsonl(tmp_path)] == [None, ["tensorboard"]]
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("ALARM")]
    assert len(told) == 1
    assert "No space left on device" in told[0]


def test_an_evaluation_replaces_only_the_event_file_of_the_one_before(tmp_path, capsys):
    folder = tmp_path / "tensorboard" / "eval-x"
    folder.mkdir(parents=True)
    own = f"events.out.tfevents.1700000000.host.{32 * 'a'}"
    (folder / own).mkdir()
    for name in ("notes.txt", "events.out.tfevents.1700000000.host", f"{own}.bak"):
        (folder / name).write_text("another's")
    (folder / f"{own[:-1]}b").symlink_to(folder / "notes.txt")
    before = {path.name for path in folder.iterdir()}
    for step in (1, 2):
        telemetry.write_evaluations(tmp_path, "x", {step: {"recall": 0.5}})
        assert len({path.name for path in folder.iterdir()} - before) == 1
    assert before <= {path.name for path in folder.iterdir()}

    folder.with_name("eval-y").symlink_to(folder)
    written = {path.name for path in folder.iterdir()}
    telemetry.write_evaluations(tmp_path, "y", {1: {"recall": 0.5}})
    assert "eval-y: must not be a symbolic link" in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == written


def test_only_samples_become_files(tmp_path):
    write(tmp_path, [2])
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["000000008.png"]


def test_every_start_is_kept_in_the_provenance(tmp_path):
    provenance.write(tmp_path, make_config(), 0, 0)
    provenance.write(tmp_path, make_config(), 40, 2)
    starts = json.loads((tmp_path / "provenance.json").read_text())
    assert [start["start_step"] for start in starts] == [0, 40]
    assert [start["rollbacks"] for start in starts] == [0, 2]
    assert starts[0]["packages"]["jax"]
    assert starts[0]["devices"] == ["cpu:cpu"] * 4


@pytest.mark.parametrize("module", ["telemetry", "train", "data.tfds_source"])
def test_tensorflow_is_not_imported_even_where_it_is_installed(module, tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise AssertionError('tensorflow was imported')")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", f"import began_jax.{module}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
