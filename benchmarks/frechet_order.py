"""Whether the distances order what must be ordered: data, samples, blurred samples.

    python -m benchmarks.frechet_order --workdir=RUN --network=efficientnet_lite0 \\
        --weights=lite0.npz --num=5000

Compares one half of `2 · num` images of the run's data with the other half, with samples of the
run's newest checkpoint, and with the same samples and data blurred by Gaussians of 0.5, 1 and 2
pixels; prints a table and writes it as JSON to --out. Ends with 1 where a distance does not grow
from the data's other half to the samples, and from there with the blur.
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

from began_jax import config, data, features, generate, restoring, runtime
from began_jax.data import decoding
from began_jax.metrics import frechet, kernel, networks

_SIGMAS = (0.5, 1.0, 2.0)  # pixels


def main() -> int:
    """Measures, prints and judges; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--network", choices=config.NETWORKS, default="random_conv")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--num", type=int, default=5000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    runtime.configure()

    network = networks.load(options.network, options.weights)
    run, state = restoring.restore(options.workdir, None)
    images = data.load(run.data, resolution=run.model.resolution, channels=run.model.channels)
    half, other = (np.asarray(images[first : 2 * options.num : 2]) for first in (0, 1))
    samples = np.concatenate(list(generate.samples(run, state, len(half))))
    sets = {"data, other half": other, "samples": samples}
    for sigma in _SIGMAS:
        sets[f"samples, blurred by {sigma}"] = blurred(samples, sigma)
    for sigma in _SIGMAS:
        sets[f"data, other half, blurred by {sigma}"] = blurred(other, sigma)

    reference = features.of_array(network, half, "data")
    table: list[dict[str, Any]] = []
    for name, of_set in sets.items():
        found = features.of_array(network, of_set, name)
        mean, _ = kernel.distance(found.kept, reference.kept)
        distance = frechet.distance(found.moments, reference.moments)
        table.append({"set": name, "num": len(of_set), "frechet": distance, "kernel": mean})
        print(f"{name:35} Fréchet {distance:9.3f}  kernel {mean:9.5f}", flush=True)
    if options.out:
        text = {"step": int(state.step), "network": network.name, "sha256": network.sha256}
        options.out.write_text(json.dumps({**text, "distances": table}, indent=2) + "\n")
    by_name = {row["set"]: row for row in table}
    of_samples = [name for name in sets if not name.startswith("data, other half, blurred")]
    of_data = [name for name in sets if name.startswith("data")]
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
