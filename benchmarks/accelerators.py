"""Compile the CelebA configs for accelerators that are not there, and count what a step does.

    python -m benchmarks.accelerators --targets h100 h100x8 --out=benchmarks/accelerators.json

Each program is compiled in a process of its own, as a target is chosen before JAX starts. The
report is written after each, and those that it holds are not compiled again.
"""

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from began_jax import files

_ROOT = Path(__file__).resolve().parents[1]
_RESOLUTIONS = (32, 64, 128, 256)
# Assumed, not measured: what the host needs to start a kernel or a graph.
_LAUNCH_SECONDS = 4e-6


def main() -> None:
    """Compile, count and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="+", default=["h100", "h100x8", "v5e-1", "v5e-8"])
    parser.add_argument("--resolutions", nargs="+", type=int, default=_RESOLUTIONS)
    parser.add_argument("--out", type=Path, default=_ROOT / "benchmarks" / "accelerators.json")
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(_measure(options.task)))
        return
    rows = json.loads(options.out.read_text()) if options.out.exists() else []
    rows = [row for row in rows if "error" not in row]  # compiled again
    for target, resolution, dtype, shared_z in itertools.product(
        options.targets, options.resolutions, ("bfloat16", "float32"), (False, True)
    ):
        task = {
            "target": target,
            "config": f"celeba{resolution}",
            "dtype": dtype,
            "shared_z": shared_z,
        }
        if any(task.items() <= row.items() for row in rows):
            continue
        rows.append({**task, **_in_process(task)})
        print(json.dumps(rows[-1]), flush=True)
        files.write_text(options.out, json.dumps(rows, indent=1) + "\n")


def _in_process(task: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.accelerators", "--task", json.dumps(task)]
    with tempfile.TemporaryDirectory() as dump:
        flags = f"--xla_dump_to={dump} --xla_dump_hlo_module_re=.*train_steps.*"
        done = subprocess.run(
            command,
            cwd=_ROOT,
            env={**os.environ, "XLA_FLAGS": flags if "h" in task["target"] else ""},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
            return {"error": last}
        found = json.loads(done.stdout.splitlines()[-1])
        for thunks in Path(dump).glob("*thunk_sequence_after_thunk_passes.txt"):
            found["host_launches"] = host_launches(thunks.read_text())
        if "host_launches" in found:
            milliseconds = 1e3 * _LAUNCH_SECONDS * found["host_launches"]
            found["milliseconds"]["launches"] = round(milliseconds, 4)
            found["binds"] = max(found["milliseconds"], key=found["milliseconds"].__getitem__)
        return found


def host_launches(thunks: str) -> int:
    """Count what the host starts in a step: kernels, calls of libraries, graphs.

    Args:
      thunks: XLA's listing. Of a program of several steps, the loop's body and condition are
        indented by 4 spaces. The kernels of a graph are indented by 4 more.
    """
    lines = thunks.splitlines()
    loop = next((i for i, line in enumerate(lines) if re.match(r"\d+: kWhile", line)), None)
    if loop is None:
        return sum(bool(re.match(r"\d+: k\w+", line)) for line in lines)
    body = itertools.takewhile(lambda line: not re.match(r"\d+: ", line), lines[loop + 1 :])
    return sum(bool(re.match(r" {4}\d+: k\w+", line)) for line in body)


def _measure(task: dict[str, Any]) -> dict[str, Any]:
    """Return what one device does in a step after the vanishing residual's end."""
    from began_jax import targets

    target = targets.parse(task["target"])
    targets.configure(target)

    import importlib

    import jax

    from began_jax import config as config_lib
    from began_jax import projection, provenance

    values = importlib.import_module(f"configs.{task['config']}").get_config().to_dict()
    values["model"].update(dtype=task["dtype"], carry_steps=0)
    values["began"].update(shared_z=task["shared_z"])
    config = config_lib.parse(values)
    found = projection.project(config, target)
    chip, counts = target.chip, found.counts
    times = {
        "flops": found.flops / chip.flops[task["dtype"]],
        "bandwidth": found.bytes_moved / chip.bandwidth,
    }
    return {
        "batch_size": found.batch_size,
        "fits": found.fits(),
        "memory": found.memory,
        "state_bytes": found.state_bytes,
        "dataset_bytes": found.dataset_bytes,
        "other_bytes": found.other_bytes,
        "flops": found.flops,
        "bytes_moved": found.bytes_moved,
        **(counts._asdict() if counts is not None else {}),
        "milliseconds": {name: round(1e3 * seconds, 4) for name, seconds in times.items()},
        "binds": max(times, key=times.__getitem__),
        "jax": jax.__version__,
        "commit": provenance.commit(),
        "cpus": os.cpu_count(),
    }


if __name__ == "__main__":
    main()
