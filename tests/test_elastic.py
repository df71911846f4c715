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
    *("--config.train.checkpoint_every_steps=100", "--config.train.checkpoints_to_keep=9"),
]
# Of values that are not measured times: means over images that other devices add in another order.
RTOL = 1e-4


def train(workdir, num_steps, num_devices, *flags):
    flag = f"--xla_force_host_platform_device_count={num_devices}"
    environment = {key: value for key, value in os.environ.items() if key != "JAX_NUM_CPU_DEVICES"}
    done = subprocess.run(
        [
            *(sys.executable, "main.py", *RUN, f"--workdir={workdir}"),
            *(f"--config.train.num_steps={num_steps}", *flags),
        ],
        cwd=ROOT,
        env={**environment, "XLA_FLAGS": flag, "BEGAN_JAX_CACHE": str(workdir.parent / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def records(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["images_per_second"]
    return lines


@pytest.mark.parametrize("sharded", [False, True], ids=["whole", "divided moments"])
def test_saved_on_four_devices_it_goes_on_with_one_then_two_then_four(tmp_path, sharded):
    flag = f"--config.train.shard_optimizer={sharded}"
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    train(whole, 16, 4, flag)
    for num_steps, num_devices in ((4, 4), (8, 1), (12, 2), (16, 4)):
        train(moved, num_steps, num_devices, flag)
    starts = json.loads((moved / "provenance.json").read_text())
    assert [(one["start_step"], len(one["devices"])) for one in starts] == [
        *((0, 4), (4, 1), (8, 2), (12, 4))
    ]
    assert [line["step"] for line in records(moved)] == list(range(1, 17))
    for one, other in zip(records(whole), records(moved), strict=True):
        print({n: abs(one[n] - other[n]) / max(abs(one[n]), 1e-9) for n in one if n != "alarms"})
        assert one.keys() == other.keys()
        rtol = RTOL if one["step"] > 4 else 0  # the same program on the same devices
        for name, value in one.items():
            np.testing.assert_allclose(other[name], value, rtol=rtol, atol=0, err_msg=name)
