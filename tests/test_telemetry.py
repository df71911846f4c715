import json
import os
import subprocess
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from began_jax import telemetry
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
            records.write_scalars(step, SCALARS)
        records.write_grids(steps[-1], images(10), images(20), images(30))


def read_jsonl(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_line_a_record_with_steps_and_images(tmp_path, capfd):
    write(tmp_path, [2, 4])
    assert read_jsonl(tmp_path) == [{"step": s, "images": 4 * s, **SCALARS} for s in (2, 4)]
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("step 2/6 img/s 8 L(x) 0.5000 L(G) 0.2500 k 0.1000 M 0.5000")
    assert lines[0].endswith("ETA 00:02")  # 4 steps of 4 images at 8 images a second


def test_a_resumed_run_drops_what_the_cut_off_one_wrote_later(tmp_path):
    write(tmp_path, [2, 4, 6])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "ima')  # killed while writing
    write(tmp_path, [6], start_step=4)
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


def test_only_samples_become_files(tmp_path):
    write(tmp_path, [2])
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["000000008.png"]


def test_every_start_is_kept_in_the_provenance(tmp_path):
    telemetry.write_provenance(tmp_path, make_config(), 0)
    telemetry.write_provenance(tmp_path, make_config(), 40)
    starts = json.loads((tmp_path / "provenance.json").read_text())
    assert [start["start_step"] for start in starts] == [0, 40]
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
