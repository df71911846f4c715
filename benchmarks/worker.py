"""One contender in a process of its own: prepares a step, then times it when it is told to.

    python -m benchmarks.worker '{"contender": "jax_auto", "resolution": 32, "n": 64, ...}'

It speaks JSON, a line each: first what preparing took, or why the contender cannot run here; then,
for each number of steps read, the seconds that they took; at the end of its input the peaks of its
memory. Two frameworks' threads so never share a process, and the processes take turns.
"""

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

Run = Callable[[int], None]  # makes so many steps and waits for the last
Prepared = tuple[Run, Callable[[], float | None], dict[str, Any]]  # and the device's peak in MB
_WARMUP_STEPS = 2


def main() -> None:
    """Serves one contender."""
    from began_jax.config import ConfigError

    task = json.loads(sys.argv[1])
    prepare = {"jax": _prepare_jax, "torch": _prepare_torch, "peak": _prepare_peak}
    start = time.perf_counter()
    try:
        run, peak_device_mb, report = prepare[task["contender"].split("_")[0]](task)
    except ConfigError as error:
        _tell({"skipped": str(error)})
        _tell({})
        return
    run(_WARMUP_STEPS)
    _tell({"ready_seconds": time.perf_counter() - start, **report})
    for line in sys.stdin:
        start = time.perf_counter()
        run(int(line))
        _tell({"seconds": time.perf_counter() - start})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 2**20 if sys.platform == "darwin" else 2**10
    _tell({"peak_host_mb": peak / unit, "peak_device_mb": peak_device_mb()})


def _tell(message: dict) -> None:
    print(json.dumps(message), flush=True)


def _prepare_jax(task: dict) -> Prepared:
    import numpy as np

    from began_jax import backends, config, feed, runtime, sharding
    from configs import base

    values = base.get_config().to_dict()
    shape = {name: task[name] for name in ("resolution", "n", "dtype")}
    conv = task["contender"].removeprefix("jax_")
    values["model"].update(carry_steps=0, conv=conv, **shape)
    values["began"].update(shared_z=task["shared_z"])
    values["train"].update(batch_size=task["batch"])

    import jax

    jax.config.update("jax_compilation_cache_dir", task["cache"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    runtime.configure()
    parsed = backends.resolve(config.parse(values))
    runtime.keep_freed_memory(parsed.model)
    mesh = sharding.make_mesh(task["batch"], jax.devices()[:1])
    size = task["resolution"]
    images = np.random.default_rng(0).integers(0, 256, (4096, size, size, 3), np.uint8)
    dataset = feed.resident(images, mesh)
    parsed = backends.resolve_dispatch(parsed, resident=dataset is not None)
    at_once = parsed.train.steps_per_dispatch
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

    def peak_device_mb() -> float | None:
        stats = jax.devices()[0].memory_stats()
        return stats["peak_bytes_in_use"] / 2**20 if stats else None

    costs = sharding.lower_steps(parsed, mesh).cost_analysis()
    report = {
        "platform": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "versions": {"jax": jax.__version__},
        "form": parsed.model.conv,
        "steps_per_dispatch": at_once,
        "compile_seconds": compile_seconds,
        "xla_flops_per_image": costs["flops"] / task["batch"] if costs else None,
    }
    return run, peak_device_mb, report


def _prepare_torch(task: dict) -> Prepared:
    import torch

    from benchmarks import torch_peers

    os.environ["TORCHINDUCTOR_CACHE_DIR"] = task["cache"]
    device, report = _torch_device()
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

    def peak_device_mb() -> float | None:
        return torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None

    return run, peak_device_mb, {**report, "form": "plain"}


def _prepare_peak(task: dict) -> Prepared:
    """Square matrix products: the highest rate of multiply-adds that a program sees."""
    import torch

    device, report = _torch_device()
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

    values = torch.zeros(2**28 if device.type == "cuda" else 2**26, device=device)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        values.add_(1)  # reads and writes each
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    report["bytes_per_second"] = 2 * values.nbytes / statistics.median(seconds)
    return run, lambda: None, {**report, "flops_per_step": 2 * size**3}


def _torch_device() -> tuple[Any, dict[str, Any]]:
    """The device, where float32 may mean TF32 on a GPU, as it does in JAX."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True  # as XLA tries its own
    cuda = torch.cuda.is_available()
    report = {
        "platform": "gpu" if cuda else "cpu",
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "versions": {"torch": torch.__version__},
    }
    return torch.device("cuda" if cuda else "cpu"), report


if __name__ == "__main__":
    main()
