"""A run that goes on with another number of devices than it was saved with."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT

RUN = [
    *("--config=configs/demo.py", "--config.model.resolution=16", "--config.model.n=4"),
    *("--config.data.num_images=64", "--config.data.flip=True", "--config.train.num_samples=4"),
    *("--config.train.batch_size=8", "--config.train.log_every_steps=1"),
    "--config.train.checkpoint_every_steps=100",
]
# Sums over a batch that is divided otherwise are rounded otherwise: some units of float32's last
# place (6e-8), and what a few steps make of them. Seen: 1.2e-6.
RTOL = 1e-5


def start(workdir, num_steps, num_devices, *flags):
    environment = {key: value for key, value in os.environ.items() if key != "JAX_NUM_CPU_DEVICES"}
    environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={num_devices}"
    run = [*RUN, f"--workdir={workdir}", f"--config.train.num_steps={num_steps}", *flags]
    return subprocess.Popen(
        [sys.executable, "main.py", *run], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    )


def records(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["images_per_second"]
    return lines


@pytest.mark.slow
def test_saved_on_four_devices_it_goes_on_with_one_then_two_then_four(tmp_path):
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    undisturbed = start(whole, 16, 4)
    for num_steps, num_devices, divided in ((4, 4, False), (8, 1, False), (12, 2, True)):
        flag = f"--config.train.shard_optimizer={divided}"
        assert start(moved, num_steps, num_devices, flag).wait(120) == 0
    assert start(moved, 16, 4, "--config.train.shard_optimizer=True").wait(120) == 0
    assert undisturbed.wait(120) == 0

    starts = json.loads((moved / "provenance.json").read_text())
    assert [(one["start_step"], len(one["devices"])) for one in starts] == [
        *((0, 4), (4, 1), (8, 2), (12, 4))
    ]
    assert [line["step"] for line in records(moved)] == list(range(1, 17))
    for one, other in zip(records(whole), records(moved), strict=True):
        assert one.keys() == other.keys()
        rtol = RTOL if one["step"] > 4 else 0  # the same program on the same devices
        for name, value in one.items():
            np.testing.assert_allclose(other[name], value, rtol=rtol, atol=0, err_msg=name)
