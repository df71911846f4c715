"""One contender in a process of its own: prepares a step, then times it when it is told to.

    python -m benchmarks.worker '{"contender": "jax_auto", "resolution": 32, "n": 64, ...}'

It speaks JSON, a line each: first what preparing took, then, for each number of steps read, the
seconds that they took; at the end of its input the peak of its memory. Two frameworks' threads so
never share a process, and the processes take turns.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

Run = Callable[[int], None]  # makes so many steps and waits for the last


def main() -> None:
    """Serves one contender."""
    task = json.loads(sys.argv[1])
    prepare = _prepare_peak if task["contender"] == "peak" else _prepare_step
    run, report = prepare(task)
    _tell(report)
    for line in sys.stdin:
        start = time.perf_counter()
        run(int(line))
        _tell({"seconds": time.perf_counter() - start})
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _tell({"peak_host_mb": kilobytes / 1024})


def _tell(message: dict) -> None:
    print(json.dumps(message), flush=True)


def _prepare_step(task: dict) -> tuple[Run, dict]:
    framework = task["contender"].split("_")[0]
    start = time.perf_counter()
    run, report = {"jax": _prepare_jax, "torch": _prepare_torch}[framework](task)
    run(task["warmup_steps"])
    return run, {"ready_seconds": time.perf_counter() - start, **report}


def _prepare_jax(task: dict) -> tuple[Run, dict]:
    import numpy as np

    from began_jax import backends, config, feed, runtime, sharding
    from configs import base

    values = base.get_config().to_dict()
    shape = {name: task[name] for name in ("resolution", "n", "dtype")}
    conv = task["contender"].removeprefix("jax_")
    values["model"].update(carry_steps=0, conv=conv, **shape)
    values["began"].update(shared_z=task["shared_z"])
    values["train"].update(batch_size=task["batch"])
    parsed = backends.resolve(config.parse(values))
    runtime.keep_freed_memory(parsed.model)

    import jax

    if task["cache"]:
        jax.config.update("jax_compilation_cache_dir", task["cache"])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    mesh = sharding.make_mesh(task["batch"], jax.devices()[:1])
    size = task["resolution"]
    images = np.random.default_rng(0).integers(0, 256, (4096, size, size, 3), np.uint8)
    dataset = feed.resident(images, mesh)
    at_once = backends.steps_per_dispatch(parsed.train, resident=dataset is not None)
    start = time.perf_counter()
    steps = sharding.compile_steps(parsed, mesh, at_once, dataset)
    compile_seconds = time.perf_counter() - start
    state, done = sharding.init_state(parsed, mesh), 0

    def run(num_steps: int) -> None:
        nonlocal state, done
        end = done + num_steps
        metrics: Any = None
        while done < end:
            num = min(at_once, end - done)
            batches = feed.batches(parsed, images, dataset, mesh, done, at_once)
            state, metrics = steps(state, batches, num)
            done += num
        jax.block_until_ready((state, metrics))

    costs = sharding.lower_steps(parsed, mesh).cost_analysis()
    report = {
        "device": jax.devices()[0].device_kind,
        "versions": {"jax": jax.__version__},
        "form": parsed.model.conv,
        "compile_seconds": compile_seconds,
        "xla_flops_per_image": costs["flops"] / task["batch"] if costs else None,
    }
    return run, report


def _prepare_torch(task: dict) -> tuple[Run, dict]:
    import torch

    from benchmarks import torch_peers

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    make = {"torch_public": torch_peers.public_step, "torch_best": torch_peers.best_step}
    step = make[task["contender"]](
        task["resolution"],
        task["n"],
        shared_z=task["shared_z"],
        dtype=getattr(torch, task["dtype"]),
        device=device,
    )
    size = task["resolution"]
    images = torch.randint(0, 256, (4096, size, size, 3), dtype=torch.uint8).to(device)

    def run(num_steps: int) -> None:
        for _ in range(num_steps):
            step(images[torch.randint(len(images), (task["batch"],), device=device)])
        if device.type == "cuda":
            torch.cuda.synchronize()

    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    return run, {"device": name, "versions": {"torch": torch.__version__}}


def _prepare_peak(task: dict) -> tuple[Run, dict]:
    """Square matrix products: the highest rate of multiply-adds that a program sees."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = 8192 if device.type == "cuda" else 2048
    a, b = (
        torch.randn(size, size, device=device, dtype=getattr(torch, task["dtype"]))
        for _ in range(2)
    )

    def run(num_steps: int) -> None:
        for _ in range(num_steps):
            torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize()

    run(task["warmup_steps"])
    return run, {"flops_per_step": 2 * size**3}


if __name__ == "__main__":
    main()
