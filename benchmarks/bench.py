"""How fast a train step is beside PyTorch's, on the same network: make bench.

Every contender lives in a process of its own (`worker`), and all take turns, several rounds long:
what slows the machine for a while slows them alike, and ratios are taken round by round. Prints a
table for each shape, writes a JSON report after each, and ends with the first shape's medians.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from began_jax import files
from benchmarks import flops

_ROOT = Path(__file__).resolve().parents[1]
_PUBLIC, _BEST, _OURS = "torch_public", "torch_best", "jax_auto"
_CONTENDERS = (_PUBLIC, _BEST, "jax_plain", "jax_phases", "jax_transposed", "jax_winograd", _OURS)
_FORMS = ("plain", "phases", "transposed", "winograd")
# Where a contender's fastest turn is so many times its slowest, something else ran beside it.
_NOISY = 1.5


class Worker:
    """A contender's process; `report` is what it tells of itself."""

    def __init__(self, task: dict):
        # JAX else takes most of a GPU's memory at once, and the contenders share the GPU.
        environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(task)],
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._task = task
        self._num_steps = 1
        self.report = self._read()

    def fill_turns(self, seconds: float) -> None:
        """Makes a turn about so long, of whole dispatches."""
        at_once = self.report.get("steps_per_dispatch", 1)
        dispatches = [self._run(at_once) for _ in range(3)]
        self._num_steps = at_once * max(1, round(seconds / statistics.median(dispatches)))

    def turn(self) -> float:
        """Steps a second over one turn."""
        return self._num_steps / self._run(self._num_steps)

    def close(self) -> None:
        """Ends the process; its peaks of memory enter the report."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self.report.update(self._read())
        self._process.wait()

    def kill(self) -> None:
        """Ends the process, if it has not ended."""
        self._process.kill()
        self._process.wait()

    def _run(self, num_steps: int) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{num_steps}\n")
        self._process.stdin.flush()
        return self._read()["seconds"]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._task['contender']}: its process ended; see above")
        return json.loads(line)


def main() -> None:
    """Runs the comparison."""
    arguments = _arguments()
    report: dict[str, Any] = {"machine": machine(), "command": sys.argv[1:], "results": []}
    for resolution in arguments.resolutions:
        for n in arguments.widths:
            for z in arguments.z:
                task = {
                    "resolution": resolution,
                    "n": n,
                    "shared_z": z == "shared",
                    "batch": arguments.batch,
                    "dtype": arguments.dtype,
                }
                result = _compare(task, arguments)
                _print(result)
                report["results"].append(result)
                text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
                files.write_text(arguments.out, text)
    _print_last_line(report["results"][0])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )

    def add(name: str, **options: Any) -> None:
        parser.add_argument(f"--{name}", **options)

    z = ["shared", "independent"]
    add("resolutions", type=int, nargs="+", default=[32, 64], help="of the images, pixels")
    add("widths", type=int, nargs="+", default=[64], help="the networks' n")
    add("z", nargs="+", choices=z, default=z, help="one draw of latents a step, or two")
    add("batch", type=int, default=16, help="images a step")
    add("dtype", choices=("float32", "bfloat16"), default="float32", help="of the networks")
    add("contenders", nargs="+", choices=_CONTENDERS, default=_CONTENDERS, help="who takes part")
    add("rounds", type=int, default=7, help="turns of each contender")
    add("turn_seconds", type=float, default=3.0, help="how long a turn is, about")
    add("out", type=Path, default=Path("benchmarks/latest.json"), help="the report")
    arguments = parser.parse_args()
    missing = {_PUBLIC, _BEST, _OURS} - set(arguments.contenders)
    if missing:
        parser.error(f"--contenders: {', '.join(sorted(missing))} are what the others stand beside")
    return arguments


def _compare(task: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    workers: dict[str, Worker] = {}
    cold: dict[str, Worker] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in ("peak", *arguments.contenders):
                own = {**task, "contender": name, "cache": f"{folder}/{name}"}
                if name.startswith("jax_"):  # fills the cache, so that the worker starts warm
                    cold[name] = Worker(own)
                    cold[name].close()
                    if "skipped" in cold[name].report:
                        print(f"{name}: left out: {cold[name].report['skipped']}")
                        continue
                workers[name] = Worker(own)
                _check_platform(workers)
            for worker in workers.values():
                worker.fill_turns(arguments.turn_seconds)
            rates: dict[str, list[float]] = {name: [] for name in workers}
            order = list(workers)
            for _ in range(arguments.rounds):
                for name in order:
                    rates[name].append(workers[name].turn())
                order = [*order[1:], order[0]]  # nobody always follows the same neighbour
            for worker in workers.values():
                worker.close()
        finally:
            for worker in [*workers.values(), *cold.values()]:
                worker.kill()
    peak = statistics.median(rates["peak"]) * workers["peak"].report["flops_per_step"]
    shape = {name: task[name] for name in ("resolution", "n", "shared_z")}
    plain = flops.step("plain", **shape)
    contenders = {}
    for name in workers:
        if name == "peak":
            continue
        report = dict(workers[name].report)
        if name in cold:
            for what in ("compile_seconds", "ready_seconds"):
                report[f"{what}_cold"] = cold[name].report[what]
        images = [rate * task["batch"] for rate in rates[name]]
        least = flops.step(report["form"], **shape)
        contenders[name] = {
            **report,
            "formula_flops_per_image": least,
            "images_per_second": _spread(images),
            "ratio_vs_public": _ratio(rates[name], rates[_PUBLIC]),
            "ratio_vs_best": _ratio(rates[name], rates[_BEST]),
            "fraction_of_peak": statistics.median(images) * plain / peak,
            "fraction_of_peak_computed": statistics.median(images) * least / peak,
        }
    bandwidth = workers["peak"].report["bytes_per_second"]
    size = {"float32": 4, "bfloat16": 2}[task["dtype"]]
    return {
        **task,
        "rounds": arguments.rounds,
        "peak_gflops": peak / 1e9,
        "bandwidth_gb": bandwidth / 1e9,
        "most_images_per_second": {
            **{f"flops, {form}": peak / flops.step(form, **shape) for form in _FORMS},
            "bytes": bandwidth / (size * flops.traffic(**shape)),
        },
        "plain_gflop_per_image": plain / 1e9,
        "contenders": contenders,
    }


def _check_platform(workers: dict[str, Worker]) -> None:
    platforms = {name: worker.report["platform"] for name, worker in workers.items()}
    if len(set(platforms.values())) > 1:
        raise SystemExit(f"the contenders run on different devices: {platforms}")


def _spread(values: list[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def _ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    return _spread([a / b for a, b in zip(ours, theirs, strict=True)])


def machine() -> dict[str, Any]:
    """Processor, cores, Python and the program's commit, for a report."""
    from began_jax import provenance  # here, as only the workers need JAX

    git = ["git", "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(git, cwd=_ROOT, capture_output=True, text=True).stdout.strip()
    except OSError:
        commit = ""
    return {
        "processor": provenance.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "commit": commit or "unknown",
    }


def _shape(result: dict[str, Any]) -> str:
    z = "one draw of z" if result["shared_z"] else "two draws of z"
    size = f"{result['resolution']}×{result['resolution']}"
    return f"{size}, n = {result['n']}, batch {result['batch']}, {result['dtype']}, {z}"


def _print(result: dict[str, Any]) -> None:
    print(f"\n{_shape(result)}")
    print(
        f"{result['plain_gflop_per_image']:.2f} GFLOP an image by the plain step; "
        f"peak {result['peak_gflops']:.0f} GFLOP/s, {result['bandwidth_gb']:.0f} GB/s; "
        f"(lowest, highest) of {result['rounds']} rounds"
    )
    bounds = result["most_images_per_second"].items()
    print("no more img/s than by " + ", by ".join(f"{why}: {most:.0f}" for why, most in bounds))
    print(
        f"{'':14}{'img/s':>22}{'÷ public':>22}{'÷ best':>22}{'of peak, computed':>20}"
        f"{'GFLOP: formula, XLA':>21}{'MB host, GPU':>15}{'compile s cold, warm':>22}"
    )
    for name, c in result["contenders"].items():
        columns = "".join(
            f"{c[key]['median']:.2f} ({c[key]['min']:.2f}, {c[key]['max']:.2f})".rjust(22)
            for key in ("images_per_second", "ratio_vs_public", "ratio_vs_best")
        )
        peak = f"{c['fraction_of_peak']:.2f}, {c['fraction_of_peak_computed']:.2f}"
        counts = [c["formula_flops_per_image"], c.get("xla_flops_per_image")]
        work = ", ".join("–" if count is None else f"{count / 1e9:.2f}" for count in counts)
        memory = f"{c['peak_host_mb']:.0f}, {c['peak_device_mb'] or 0:.0f}"
        seconds = [c.get("compile_seconds_cold"), c.get("compile_seconds")]
        compiling = ", ".join("–" if s is None else f"{s:.1f}" for s in seconds)
        print(f"{name:14}{columns}{peak:>20}{work:>21}{memory:>15}{compiling:>22}", flush=True)
    ours = result["contenders"][_OURS]
    print(f"{_OURS} is {ours['form']}; {ours['device']}; {_versions(result)}", flush=True)


def _print_last_line(result: dict[str, Any]) -> None:
    noisy = {
        name: c["images_per_second"]["max"] / c["images_per_second"]["min"]
        for name, c in result["contenders"].items()
        if c["images_per_second"]["max"] > _NOISY * c["images_per_second"]["min"]
    }
    if noisy:
        told = ", ".join(f"{name} {ratio:.1f}" for name, ratio in noisy.items())
        print(
            f"\nNOT TO BE RELIED ON: highest ÷ lowest img/s of {told}, more than {_NOISY}: "
            "other work ran beside; measure again on a quiet machine"
        )
    ours = result["contenders"][_OURS]
    print(f"\n{_OURS}, {_shape(result)}:")
    print(
        f"ratio_vs_eager={ours['ratio_vs_public']['median']:.2f} "
        f"ratio_vs_best={ours['ratio_vs_best']['median']:.2f} "
        f"fraction_of_peak={ours['fraction_of_peak']:.2f}"
    )


def _versions(result: dict[str, Any]) -> str:
    versions: dict[str, str] = {}
    for contender in result["contenders"].values():
        versions.update(contender["versions"])
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


if __name__ == "__main__":
    main()
