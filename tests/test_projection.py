"""Counts of a program's text, names of targets, and what a dry run for them reports."""

import subprocess
import sys

import pytest

from began_jax import hlo, projection, targets
from began_jax.errors import UserError
from benchmarks import accelerators
from tests.conftest import ROOT, make_config

PROGRAM = """HloModule jit_train_steps

%body (p: (f32[4], u8[100,12])) -> (f32[4], u8[100,12]) {
  %p = (f32[4]{0}, u8[100,12]{1,0}) parameter(0)
  %x = f32[4]{0} get-tuple-element(%p), index=0
  %data = u8[100,12]{1,0} get-tuple-element(%p), index=1
  %rows = u8[2,12]{1,0} fusion(%data), kind=kLoop, calls=%take
  %y = (bf16[2,4]{1,0}, u8[0]{0}) custom-call(%rows, %x), custom_call_target="__cudnn$convForward"
  %z = bf16[2,4]{1,0} get-tuple-element(%y), index=0
  %started = f32[4]{0} all-reduce-start(%x), replica_groups={{0,1}}
  %sum = f32[4]{0} all-reduce-done(%started)
  ROOT %out = (f32[4]{0}, u8[100,12]{1,0}) tuple(%sum, %data)
}

ENTRY %main (a: f32[4], data: u8[100,12]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %data.1 = u8[100,12]{1,0} parameter(1)
  %t = (f32[4]{0}, u8[100,12]{1,0}) tuple(%a, %data.1)
  %w = (f32[4]{0}, u8[100,12]{1,0}) while(%t), condition=%cond, body=%body
  ROOT %r = f32[4]{0} get-tuple-element(%w), index=0
}
"""


def test_a_step_s_kernels_bytes_and_collectives_are_counted_in_the_loop():
    counts = hlo.count_step(PROGRAM, (100, 12))
    assert (counts.kernels, counts.convolutions) == (3, 1)
    # The rows taken; rows, x and y of the convolution; x and its sum.
    assert counts.bytes_moved == 24 + (24 + 16 + 16) + (16 + 16)
    assert (counts.collectives, counts.collective_bytes) == ({"all-reduce": 1}, 16)
    assert hlo.count_step(PROGRAM).bytes_moved == counts.bytes_moved + 1200


def test_without_a_loop_the_entry_is_the_step():
    text = PROGRAM.replace("%body", "ENTRY %body").split("ENTRY %main")[0]
    assert hlo.count_step(text, (100, 12)).kernels == 3


@pytest.mark.parametrize(
    ("name", "chip", "num"),
    [("h100", "h100", 1), ("h200x8", "h200", 8), ("v5e-8", "v5e", 8), ("v4-16", "v4", 8)],
)
def test_a_target_is_a_chip_and_a_number(name, chip, num):
    target = targets.parse(name)
    assert (target.chip, target.num_devices) == (targets.CHIPS[chip], num)
    assert target.platform == ("tpu" if chip.startswith("v") else "gpu")


@pytest.mark.parametrize("name", ["h100x3", "h100-8", "v5ex8", "v5e", "v4-4", "b200", ""])
def test_other_names_are_refused(name):
    with pytest.raises(UserError, match=r"^--target=.*: must be h100 or h200"):
        targets.parse(name)


def fake(monkeypatch, bytes_per_image):
    """Replaces the compilation by a step whose memory is in proportion to the batch."""

    def project(config, target):
        batch = config.train.batch_size
        return projection.Projection(
            target=target,
            batch_size=batch,
            resident=False,
            state_bytes=10**9,
            dataset_bytes=0,
            other_bytes=bytes_per_image * batch // target.num_devices,
            counts=hlo.Counts(380, 115, 2 * 10**9, {"all-reduce": 1}, 14_000_000),
            flops=1e9 * batch,
            bytes_moved=3.35e9,
        )

    monkeypatch.setattr(projection, "project", project)


def test_the_report_gives_the_least_time_at_nominal_speed(monkeypatch):
    fake(monkeypatch, 10**9)
    lines = "\n".join(projection.report(make_config(train__batch_size=8), targets.parse("h100x2")))
    assert "memory per device: 5.00 of the 63.7 GB that JAX uses" in lines
    assert "largest batch: about 125" in lines  # (63.7 − 1) GB / 4 GB of 8 images
    assert "380 kernels (115 convolutions), 1 all-reduce exchanged, 14.0 MB" in lines
    assert "least time of a step: 1.00 ms, 8,000 images/s" in lines  # bytes bind


def test_of_a_config_that_does_not_fit_the_report_names_a_batch_that_does(monkeypatch):
    fake(monkeypatch, 10**10)
    lines = projection.report(make_config(train__batch_size=16), targets.parse("h100x2"))
    assert lines[1].startswith("fits: no. config.train.batch_size=16 needs 81.0 GB")
    assert lines[2] == "config.train.batch_size=8 fits. The rest is for it:"
    fake(monkeypatch, 10**12)
    lines = projection.report(make_config(train__batch_size=32), targets.parse("h100x2"))
    assert lines[-1] == "No batch fits. Use a smaller config.model.n."


def dry_run(*options):
    command = [sys.executable, "main.py", "--config=configs/demo.py", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_without_its_compiler_one_line_says_what_to_install():
    done = dry_run("--dry_run", "--target=v5e-8")
    if done.returncode == 0:
        pytest.skip("the compilers are installed")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Install requirements-targets.txt" in done.stderr


def test_a_target_is_for_a_dry_run_alone():
    done = dry_run("--target=h100")
    assert (done.returncode, done.stderr) == (2, "--target=h100: needs --dry_run.\n")


def test_host_launches_are_those_of_the_loop_with_a_graph_as_one():
    thunks = """000: kCommandBuffer
    001: kCustomKernel
002: kWhile
condition:
    003: kCustomKernel
  body:
    000: kCommandBuffer
        004: kCustomKernel
        005: kCustomKernel
    006: kConvolution
007: kCopy
"""
    assert accelerators.host_launches(thunks) == 3
    one_step = "000: kCommandBuffer\n    001: kCustomKernel\n002: kConvolution\n"
    assert accelerators.host_launches(one_step) == 2
