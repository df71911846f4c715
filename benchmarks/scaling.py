"""What more processes cost: the step on one core, on two, and what of it is communication.

    python -m benchmarks.scaling --rounds=9 --out=benchmarks/scaling.json

Weak scaling: each process has a core and a batch of its own. Two of them (Gloo, on this machine)
time blocks of steps that each makes alone, both at once, and blocks that they make together: the
difference is what the all-reduce of the gradients, and waiting for it, takes. Beside it, the same
bytes summed alone: in as many arrays, and in one. Then simulated devices, with Adam's moments on
each and divided. Last, on paper, what GPUs would exchange.
"""

import argparse
import json
import math
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from began_jax import backends, files, processes, runtime, sharding
from began_jax import config as config_lib
from began_jax.schema import Config
from benchmarks import bench
from configs import celeba64, celeba128, demo

# (n, batch of each process or, simulated, of all, steps of a block), all at 32×32.
_WEAK = [(16, 16, 20), (64, 4, 10)]
_DIVIDED = [(16, 16, 20), (64, 8, 4)]
_GB = 1e9
# Nominal, one way: NVLink of an H100, and one 400 Gb/s InfiniBand adapter.
_NVLINK, _INFINIBAND = 450 * _GB, 50 * _GB


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="blocks of each kind")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(_measure(options.task)))
        return
    report: dict[str, Any] = {
        "machine": {**bench.machine(), "load": os.getloadavg()[0], "jax": jax.__version__},
        "rounds": options.rounds,
        "weak": [_weak(*case, options.rounds) for case in _WEAK],
        "divided": [
            _divided(*case, num_devices, options.rounds)
            for case in _DIVIDED
            for num_devices in (2, 4)
        ],
        "computed_not_measured": [_on_paper(module) for module in (celeba64, celeba128)],
    }
    print(json.dumps(report, indent=2))
    if options.out:
        files.write_text(options.out, json.dumps(report, indent=2) + "\n")


def _weak(n: int, batch: int, steps: int, rounds: int) -> dict[str, Any]:
    task = {"n": n, "batch": batch, "steps": steps, "rounds": rounds}
    # Before and after, as other work on the machine comes and goes.
    (before,), two, (after,) = _run(task, 1), _run(task, 2), _run(task, 1)
    one = statistics.median(before["alone"] + after["alone"])
    together = statistics.median(two[0]["together"])
    alone = statistics.median(two[0]["alone"] + two[1]["alone"])
    return {
        "n": n,
        "batch_of_each": batch,
        "all_reduced_arrays": two[0]["arrays"],
        "all_reduced_bytes": two[0]["bytes"],
        "one_process_ms": _spread(before["alone"] + after["alone"]),
        "two_without_communication_ms": _spread(two[0]["alone"] + two[1]["alone"]),
        "two_ms": _spread(two[0]["together"]),
        "communication_ms": (together - alone) * 1e3,
        "all_reduce_alone_ms": _spread(two[0]["as_many_arrays"]),
        "all_reduce_alone_in_one_array_ms": _spread(two[0]["one_array"]),
        "efficiency": one / together,
    }


def _divided(n: int, batch: int, steps: int, num_devices: int, rounds: int) -> dict[str, Any]:
    task = {"n": n, "batch": batch, "steps": steps, "rounds": rounds, "num_devices": num_devices}
    (found,) = _run(task, 1)
    return {
        "n": n,
        "batch": batch,
        "devices": num_devices,
        **{
            kind: {"state_bytes_a_device": of["state_bytes"], "ms": _spread(of["seconds"])}
            for kind, of in found.items()
        },
    }


def _run(task: dict[str, Any], num_processes: int) -> list[dict[str, Any]]:
    """What each of so many processes found."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(task.get("num_devices", 1))}
    started = []
    for i in range(num_processes):
        own = {**task, "id": i, "num_processes": num_processes, "coordinator": address}
        command = [sys.executable, "-m", "benchmarks.scaling", f"--task={json.dumps(own)}"]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, env=environment))
    outputs = [one.communicate()[0] for one in started]
    if any(one.returncode for one in started):
        raise SystemExit("a process failed; it has said why")
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def _measure(task: dict[str, Any]) -> dict[str, Any]:
    """In a process of its own."""
    runtime.configure()
    if "num_devices" in task:
        return _whole_and_divided(task)
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[task["id"]]})
    if task["num_processes"] == 1:
        return {"alone": _blocks({"alone": _stepper(task, jax.local_devices())[0]}, task)["alone"]}
    processes.start(task["coordinator"], task["num_processes"], task["id"], detect=False)
    processes.smallest(0)  # connects them: Gloo waits 30 seconds for it, a compilation takes longer
    alone, _ = _stepper(task, jax.local_devices())
    together, sizes = _stepper(task, jax.devices())
    steppers = {
        "alone": alone,
        "together": together,
        "as_many_arrays": _all_reducer([sum(sizes) // len(sizes)] * len(sizes)),
        "one_array": _all_reducer([sum(sizes)]),
    }
    return {**_blocks(steppers, task), "arrays": len(sizes), "bytes": sum(sizes)}


def _whole_and_divided(task: dict[str, Any]) -> dict[str, Any]:
    config = _config(task["n"], task["batch"])
    steppers, found = {}, {}
    for kind, divided in (("whole", False), ("divided", True)):
        values = json.loads(config_lib.to_json(config))
        values["train"]["shard_optimizer"] = divided
        of = config_lib.parse(values)
        mesh = sharding.make_mesh(task["batch"])
        steppers[kind], _ = _on_mesh(of, mesh)
        state = sharding.init_state(of, mesh)
        found[kind] = {
            "state_bytes": sum(x.addressable_data(0).nbytes for x in jax.tree.leaves(state))
        }
    for kind, seconds in _blocks(steppers, task).items():
        found[kind]["seconds"] = seconds
    return found


def _config(n: int, batch: int) -> Config:
    values = demo.get_config().to_dict()
    values["model"]["n"], values["train"]["batch_size"] = n, batch
    return backends.resolve(config_lib.parse(values))


def _stepper(
    task: dict[str, Any], devices: list[jax.Device]
) -> tuple[Callable[[int], None], list[int]]:
    batch = task["batch"] * len(devices)
    return _on_mesh(_config(task["n"], batch), sharding.make_mesh(batch, devices))


def _on_mesh(config: Config, mesh: Mesh) -> tuple[Callable[[int], None], list[int]]:
    """What makes so many train steps, and the bytes of each array that is summed over devices."""
    runtime.keep_freed_memory(config.model)
    compiled = backends.compile(sharding.lower_steps(config, mesh), config.model)
    m = config.model
    shape = (1, config.train.batch_size, m.resolution, m.resolution, m.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    batches = sharding.put(images, sharding.split(mesh))
    state = sharding.init_state(config, mesh)

    def run(num_steps: int) -> None:
        nonlocal state
        for _ in range(num_steps):
            state, metrics = compiled(state, batches, np.int32(1), None)
        jax.block_until_ready((state, metrics))

    run(2)
    return run, all_reduced(compiled.as_text() or "")


def all_reduced(program: str) -> list[int]:
    """The bytes of each array that a compiled program, given as text, sums over the devices."""
    found = []
    for shapes in re.findall(r"= (.+?) all-reduce(?:-start)?\(", program):
        for bits, sizes in re.findall(r"[a-z]+(\d+)\[([\d,]*)\]", shapes):
            found.append(int(bits) // 8 * math.prod(int(size) for size in sizes.split(",") if size))
    return found


def _all_reducer(sizes: list[int]) -> Callable[[int], None]:
    """What sums float32 arrays of so many bytes over all processes, so many times."""
    mesh = sharding.make_mesh(jax.device_count())
    parts = NamedSharding(mesh, PartitionSpec("data"))
    ones = [np.ones((mesh.size, size // 4), np.float32) for size in sizes]
    arrays = [sharding.put(one, parts) for one in ones]
    summed = sharding.compile_for(mesh, lambda xs: [x.sum(0) for x in xs], arrays)

    def run(num: int) -> None:
        for _ in range(num):
            jax.block_until_ready(summed(arrays))

    run(2)
    return run


def _blocks(
    steppers: dict[str, Callable[[int], None]], task: dict[str, Any]
) -> dict[str, list[float]]:
    """Seconds a step of each kind, in turns, all processes beginning each block together."""
    found: dict[str, list[float]] = {kind: [] for kind in steppers}
    for _ in range(task["rounds"]):
        for kind, run in steppers.items():
            processes.smallest(0)
            began = time.perf_counter()
            run(task["steps"])
            found[kind].append((time.perf_counter() - began) / task["steps"])
    return found


def _spread(seconds: list[float]) -> dict[str, float]:
    ms = [value * 1e3 for value in seconds]
    return {"min": min(ms), "median": statistics.median(ms), "max": max(ms)}


def _on_paper(module: Any) -> dict[str, Any]:
    """A ring's all-reduce of float32 gradients: 2 (N - 1) / N of their bytes through each link."""
    config = config_lib.parse(module.get_config().to_dict())
    state = sharding.abstract_state(config, sharding.make_mesh(1, jax.local_devices()[:1]))
    leaves = jax.tree.leaves((state.generator, state.discriminator))
    gradients = 4 * sum(leaf.size for leaf in leaves)

    def ms(num: int, bandwidth: float) -> float:
        return 2 * (num - 1) / num * gradients / bandwidth * 1e3

    return {
        "config": config.name,
        "gradient_bytes": gradients,
        "ms_on_8_gpus_nvlink_450_GB_s": ms(8, _NVLINK),
        "ms_on_64_gpus_400_Gb_s_a_host": ms(64, _INFINIBAND),
    }


if __name__ == "__main__":
    main()
