"""How fast a train step is beside PyTorch's, on the same network: make bench.

Every contender lives in a process of its own (`worker`), and all take turns, several rounds long:
what slows the machine for a while slows them alike, and ratios are taken round by round. Prints a
table, writes a JSON report, and ends with the medians at the first resolution and width.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import flops

_ROOT = Path(__file__).resolve().parents[1]
_PUBLIC, _BEST, _OURS = "torch_public", "torch_best", "jax_auto"
_CONTENDERS = (_PUBLIC, _BEST, "jax_plain", "jax_phases", "jax_winograd", _OURS)


class Worker:
    """A contender's process."""

    def __init__(self, task: dict, turn_seconds: float):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(task)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.task = task
        self.report = self._read()
        seconds = [self.run(1) for _ in range(3)]
        self._num_steps = max(1, round(turn_seconds / statistics.median(seconds)))

    def turn(self) -> float:
        """Steps a second over one turn."""
        return self._num_steps / self.run(self._num_steps)

    def run(self, num_steps: int) -> float:
        """The seconds that so many steps take."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{num_steps}\n")
        self._process.stdin.flush()
        return self._read()["seconds"]

    def close(self) -> None:
        """Ends the process; its peak of memory enters the report."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self.report.update(self._read())
        self._process.wait()

    def _read(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.task['contender']}: its process ended; see above")
        return json.loads(line)


def main() -> None:
    """Runs the comparison."""
    arguments = _arguments()
    results = []
    for resolution in arguments.resolutions:
        for n in arguments.widths:
            for z in arguments.z:
                task = {
                    "resolution": resolution,
                    "n": n,
                    "shared_z": z == "shared",
                    "batch": arguments.batch,
                    "dtype": arguments.dtype,
                    "warmup_steps": 2,
                }
                result = _compare(task, arguments)
                _print(result)
                results.append(result)
    report = {"machine": _machine(), "command": sys.argv, "results": results}
    temporary = arguments.out.with_suffix(".tmp")
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(temporary, arguments.out)
    ours = results[0]["contenders"][_OURS]
    print(
        f"ratio_vs_eager={ours['ratio_vs_public']['median']:.2f} "
        f"ratio_vs_best={ours['ratio_vs_best']['median']:.2f} "
        f"fraction_of_peak={ours['fraction_of_peak']:.2f}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolutions", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--widths", type=int, nargs="+", default=[64])
    parser.add_argument("--z", nargs="+", choices=("shared", "independent"), default=["shared"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--contenders", nargs="+", choices=_CONTENDERS, default=_CONTENDERS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turn_seconds", type=float, default=3.0)
    parser.add_argument("--out", type=Path, default=_ROOT / "benchmarks" / "latest.json")
    arguments = parser.parse_args()
    missing = {_PUBLIC, _BEST, _OURS} - set(arguments.contenders)
    if missing:
        parser.error(f"--contenders: {', '.join(sorted(missing))} are what the others stand beside")
    return arguments


def _compare(task: dict, arguments: argparse.Namespace) -> dict:
    cache = tempfile.mkdtemp()
    try:
        cold = {name: _cold_start(task, name, cache) for name in arguments.contenders}
        workers = {
            name: Worker({**task, "contender": name, "cache": cache}, arguments.turn_seconds)
            for name in ("peak", *arguments.contenders)
        }
        rates: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(arguments.rounds):
            for name, worker in workers.items():
                rates[name].append(worker.turn())
        for worker in workers.values():
            worker.close()
    finally:
        shutil.rmtree(cache)
    peak = statistics.median(rates["peak"]) * workers["peak"].report["flops_per_step"]
    shape = {name: task[name] for name in ("resolution", "n", "shared_z")}
    plain = flops.step("plain", **shape)
    contenders = {}
    for name in arguments.contenders:
        report = {**workers[name].report, "cold_compile_seconds": cold[name]}
        images = [rate * task["batch"] for rate in rates[name]]
        if "form" in report:
            report["formula_flops_per_image"] = flops.step(report["form"], **shape)
        contenders[name] = {
            **report,
            "images_per_second": _spread(images),
            "ratio_vs_public": _ratio(rates[name], rates[_PUBLIC]),
            "ratio_vs_best": _ratio(rates[name], rates[_BEST]),
            "fraction_of_peak": statistics.median(images) * plain / peak,
        }
    return {
        **task,
        "rounds": arguments.rounds,
        "peak_gflops": peak / 1e9,
        "plain_gflop_per_image": plain / 1e9,
        "contenders": contenders,
    }


def _cold_start(task: dict, contender: str, cache: str) -> float | None:
    """Compiles into an empty cache, so that the worker proper starts warm."""
    if not contender.startswith("jax_"):
        return None
    worker = Worker({**task, "contender": contender, "cache": cache}, turn_seconds=0)
    worker.close()
    return worker.report["compile_seconds"]


def _spread(values: list[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def _ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    return _spread([a / b for a, b in zip(ours, theirs, strict=True)])


def _machine() -> dict:
    with open("/proc/cpuinfo") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=_ROOT, capture_output=True, text=True
    )
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def _print(result: dict) -> None:
    z = "one draw of z" if result["shared_z"] else "two draws of z"
    shape = f"{result['resolution']}×{result['resolution']}, n = {result['n']}"
    work = f"{result['plain_gflop_per_image']:.2f} GFLOP an image by the plain step"
    print(f"\n{shape}, batch {result['batch']}, {result['dtype']}, {z}")
    print(f"{work}; peak {result['peak_gflops']:.0f} GFLOP/s")
    print(
        f"{'':14}{'img/s (min, max)':>24}{'÷ public (min, max)':>24}{'÷ best (min, max)':>24}"
        f"{'of peak':>9}{'host MB':>9}{'compile s':>11}"
    )
    for name, c in result["contenders"].items():
        columns = "".join(
            f"{c[key]['median']:>11.2f} ({c[key]['min']:.2f}, {c[key]['max']:.2f})".rjust(24)
            for key in ("images_per_second", "ratio_vs_public", "ratio_vs_best")
        )
        cold = c["cold_compile_seconds"]
        print(
            f"{name:14}{columns}{c['fraction_of_peak']:>9.2f}{c['peak_host_mb']:>9.0f}"
            f"{'' if cold is None else f'{cold:.1f}':>11}"
        )


if __name__ == "__main__":
    main()
