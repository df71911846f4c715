"""Whether the distances order what must be ordered: data, samples, blurred samples.

    python -m benchmarks.frechet_order --workdir=RUN --network=efficientnet_lite0 \\
        --weights=lite0.npz --num=5000

Compares `num` images of the run's data with `num` others, with samples of the
run's newest checkpoint, and with the same samples and data blurred by Gaussians of 0.5, 1 and 2
pixels; prints a table and writes it as JSON to --out. Ends with 1 where a distance does not grow
from the data's other images to the samples, and from there with the blur; with 2 where it cannot
measure.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageFilter

from began_jax import errors, features, generate, restoring, rules, runtime
from began_jax.data import decoding, order
from began_jax.metrics import frechet, kernel, networks

_SIGMAS = (0.5, 1.0, 2.0)  # pixels


def main() -> int:
    """Measures, prints and judges; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--network", choices=rules.NETWORKS, default="random_conv")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--num", type=int, default=5000, help="images of a set; 1000 or more")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.num < 1000:
        parser.error(f"--num={options.num}: 1000 or more are needed")
    try:
        return _measure(options)
    except errors.UserError as error:
        print(error, file=sys.stderr)
        return error.exit_status


def _measure(options: argparse.Namespace) -> int:
    runtime.configure()

    network = networks.load(options.network, options.weights)
    run, state = restoring.restore(options.workdir, None)
    images = restoring.load_data(options.workdir, run)
    indices = order.subset(len(images), 2 * options.num)
    num = len(indices) // 2
    other = images[indices[num : 2 * num]]
    samples = np.concatenate(list(generate.samples(run, state, num)))
    sets = {"other data": other, "samples": samples}
    for sigma in _SIGMAS:
        sets[f"samples, blurred by {sigma}"] = blurred(samples, sigma)
    for sigma in _SIGMAS:
        sets[f"other data, blurred by {sigma}"] = blurred(other, sigma)

    reference = features.of_images(network, images, indices[:num], "data")
    table: list[dict[str, Any]] = []
    for name, of_set in sets.items():
        found = features.of_images(network, of_set, np.arange(num), name)
        mean, _ = kernel.distance(found.kept, reference.kept, size=1000)
        distance = frechet.distance(found.moments, reference.moments)
        table.append({"set": name, "num": num, "frechet": distance, "kernel": mean})
        print(f"{name:35} Fréchet {distance:9.3f}  kernel {mean:9.5f}", flush=True)
    if options.out:
        text = {"step": int(state.step), "network": network.name, "sha256": network.sha256}
        options.out.write_text(json.dumps({**text, "distances": table}, indent=2) + "\n")
    by_name = {row["set"]: row for row in table}
    of_samples = [name for name in sets if not name.startswith("other data, blurred")]
    of_data = [name for name in sets if name.startswith("other data")]
    ordered = all(
        _grows(by_name[name][distance] for name in names)
        for names in (of_samples, of_data)
        for distance in ("frechet", "kernel")
    )
    print("in order" if ordered else "NOT in order")
    return int(not ordered)


def blurred(images: np.ndarray, sigma: float) -> np.ndarray:
    """Images, uint8 (N, H, W, C), under a Gaussian of `sigma` pixels."""
    gaussian = ImageFilter.GaussianBlur(sigma)
    results = [np.asarray(decoding.to_image(image).filter(gaussian)) for image in images]
    return np.stack(results).reshape(images.shape)


def _grows(values: Iterable[float]) -> bool:
    return all(a < b for a, b in itertools.pairwise(values))


if __name__ == "__main__":
    sys.exit(main())
