"""The forms of one convolution, forward and back, on this machine.

    python -m benchmarks.convolutions [--batch 16]

Prints, for layers of the 32×32 and 64×64 networks with n = 64, the milliseconds of the result and
both gradients in each form, by XLA's default libraries and by those that the train step in the form
"winograd" asks for; the median and the range of several turns, in which all take part.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
from jax import Array

from began_jax import backends, config, runtime
from began_jax.models import layers
from configs import base

# (side of the map that is read, channels in, channels out, what `layers.conv` takes besides)
_LAYERS = [
    (32, 3, 64, {}),
    (32, 64, 64, {}),
    (32, 64, 128, {"stride": 2}),
    (16, 128, 128, {}),
    (16, 128, 192, {"stride": 2}),
    (8, 64, 64, {}),
    (8, 64, 64, {"factor": 2}),
    (16, 64, 64, {"factor": 2}),
    (8, 64, 64, {"factor": 4}),
    (32, 64, 3, {}),
    (64, 64, 64, {}),
    (64, 64, 128, {"stride": 2}),
    (32, 64, 64, {"factor": 2}),
]


def main() -> None:
    """Times every layer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    values = base.get_config().to_dict()
    values["model"].update(n=64, conv="winograd")
    model = config.parse(values).model
    runtime.keep_freed_memory(model)
    libraries = {"default": {}, "step's": backends.compiler_options(model)}
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}; step's: {libraries}")
    for side, num_in, num_out, options in _LAYERS:
        runs = {
            f"{form}, {name}": _compile(
                form, library, arguments.batch, side, num_in, num_out, options
            )
            for form in ("plain", "phases", "winograd")
            for name, library in libraries.items()
            if form != "phases" or "factor" in options
        }
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(arguments.rounds):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                times[name].append(1000 * (time.perf_counter() - start))
        print(f"\n{side}×{side}, {num_in} → {num_out} {options or ''}")
        for name, values in times.items():
            print(
                f"  {name:20}{statistics.median(values):8.2f} ms "
                f"({min(values):.2f} to {max(values):.2f})"
            )


def _compile(
    form: str,
    library: dict,
    batch: int,
    side: int,
    num_in: int,
    num_out: int,
    options: dict[str, int],
) -> Callable[[], None]:
    def everything(x: Array, kernel: Array, y_bar: Array) -> tuple[Array, ...]:
        y, pull_back = jax.vjp(lambda x, kernel: layers.conv(x, kernel, form, **options), x, kernel)
        return y, *pull_back(y_bar)

    result = side * options.get("factor", 1) // options.get("stride", 1)
    shapes = (
        (batch, side, side, num_in),
        (3, 3, num_in, num_out),
        (batch, result, result, num_out),
    )
    draws = np.random.default_rng(0)
    inputs = [jax.device_put(draws.standard_normal(shape, np.float32)) for shape in shapes]
    compiled = jax.jit(everything).lower(*inputs).compile(compiler_options=library)

    def run() -> None:
        jax.block_until_ready(compiled(*inputs))

    for _ in range(3):
        run()
    return run


if __name__ == "__main__":
    main()
