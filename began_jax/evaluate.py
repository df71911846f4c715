"""How good and how varied a checkpoint's samples are: a report with all that defines it."""

import functools
import hashlib
import json
import statistics
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from began_jax import data, errors, files, generate, restoring, telemetry
from began_jax.config import Config
from began_jax.metrics import (
    frechet,
    inception_score,
    kernel,
    ms_ssim,
    precision_recall,
)
from began_jax.metrics.networks import FeatureNetwork
from began_jax.train_state import TrainState

# So many features are kept for the distances that compare them one by one.
_MOST_KEPT = 10_000
_SUBSET = 1000  # features, of the kernel distance
_PAIRS = 1000  # of images, for MS-SSIM
_REFERENCE_VERSION = 1  # raise it with every change of what a reference holds


class Features(NamedTuple):
    """What a set of images leaves behind, of bounded size."""

    moments: frechet.Moments  # of all
    kept: np.ndarray  # float32 (up to 10,000, F), the first
    logits: np.ndarray | None  # float32 (N, K), where the network has classes


def evaluate(
    workdir: Path,
    *,
    steps: Sequence[int | None],
    network: FeatureNetwork,
    num: int,
    seed: int,
    num_seeds: int,
    average: bool,
) -> Iterator[Path]:
    """Compares `num` samples of each of `num_seeds` seeds with as many images of the run's data.

    A report's metrics are means over the seeds with their standard deviation. Where the data has
    fewer images than `num`, all of them are the reference. Yields each step's report (None: of the
    newest that can be read).

    Raises:
      UserError: no such checkpoint, too few samples, or a reference that cannot be read.
    """
    config = restoring.load_config(workdir)
    images = data.load(
        config.data, resolution=config.model.resolution, channels=config.model.channels
    )
    if min(num, len(images)) < _SUBSET:
        raise errors.UserError(
            f"--num={num}: samples and images of the data ({len(images)}), "
            f"{_SUBSET} of each are needed at least"
        )
    real = images[:num]
    reference, reference_key = _reference(network, real)
    seeds = range(seed, seed + num_seeds)
    of_all_steps = {
        "num_samples": num,
        "num_reference": len(real),
        "seeds": list(seeds),
        "network": network.name,
        "network_sha256": network.sha256,
        "reference": reference_key,
        "commit": telemetry.commit(),
        "ms_ssim_of_data": _ms_ssim(real[: 2 * _PAIRS], seed),
    }
    folder = workdir / "eval" / network.name
    for wanted in steps:
        _, state = restoring.restore(workdir, wanted)
        by_seed = [
            _compare(config, state, network, reference, num, one, average=average) for one in seeds
        ]
        metrics = {name: _mean_and_spread([one[name] for one in by_seed]) for name in by_seed[0]}
        step = int(state.step)
        report = {
            "step": step,
            "images": step * config.train.batch_size,
            "generator": "average" if average and state.generator_average is not None else "raw",
            **of_all_steps,
            "reconstruction_error": _reconstruction_error(config, state, real[:_PAIRS]),
            "metrics": metrics,
        }
        folder.mkdir(parents=True, exist_ok=True)
        out = folder / f"{step:08d}.json"
        files.write_text(out, json.dumps(report, indent=2) + "\n")
        _write_table(folder)
        means = {name: of["mean"] for name, of in metrics.items()}
        telemetry.write_evaluation(workdir, step, means)
        yield out


def _write_table(folder: Path) -> None:
    """table.csv: a line for each report, the means of its metrics."""
    reports = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    names = list(reports[-1]["metrics"])
    lines = [",".join(["step", "images", "num_samples", *names])]
    for report in reports:
        means = [report["metrics"].get(name, {}).get("mean", "") for name in names]
        values = [report["step"], report["images"], report["num_samples"], *means]
        lines.append(",".join(map(str, values)))
    files.write_text(folder / "table.csv", "\n".join(lines) + "\n")


def summary(path: Path) -> str:
    """A report's metrics in one line."""
    report = json.loads(path.read_text())
    return ", ".join(
        f"{name} {of['mean']:.4g}" + ("" if of["std"] is None else f" ± {of['std']:.2g}")
        for name, of in report["metrics"].items()
    )


def _compare(
    config: Config,
    state: TrainState,
    network: FeatureNetwork,
    reference: Features,
    num: int,
    seed: int,
    *,
    average: bool,
) -> dict[str, float]:
    shown: list[np.ndarray] = []

    def noted(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            if sum(map(len, shown)) < 2 * _PAIRS:
                shown.append(block)
            yield block

    samples = generate.samples(config, state, num, seed=seed, average=average)
    found = _features(network, noted(samples), num, f"seed {seed}")
    precision, recall = precision_recall.precision_recall(reference.kept, found.kept)
    distance, _ = kernel.distance(
        found.kept, reference.kept, subset_size=_SUBSET, num_subsets=50, seed=seed
    )
    metrics = {
        f"fd_{network.name}": frechet.distance(found.moments, reference.moments),
        f"kd_{network.name}": distance,
        "precision": precision,
        "recall": recall,
        "ms_ssim": _ms_ssim(np.concatenate(shown), seed),
    }
    if found.logits is not None:
        metrics[f"score_{network.name}"] = inception_score.score(found.logits)[0]
    return metrics


def _features(
    network: FeatureNetwork, blocks: Iterable[np.ndarray], num: int, label: str
) -> Features:
    """Looks at `num` images, uint8 (B, H, W, C) a block, once."""
    apply = functools.partial(jax.jit(network.apply), network.params)
    moments: frechet.Moments | None = None
    kept: list[np.ndarray] = []
    logits: list[np.ndarray] = []
    with tqdm(total=num, desc=label, unit=" images", disable=None) as bar:
        for block in blocks:
            features, of_classes = generate.by_blocks(apply, block)
            if moments is None:
                moments = frechet.empty(features.shape[1])
            moments = frechet.add(moments, features)
            if sum(map(len, kept)) < _MOST_KEPT:
                kept.append(features)
            if of_classes is not None:
                logits.append(of_classes)
            bar.update(len(block))
    assert moments is not None
    return Features(
        moments,
        np.concatenate(kept)[:_MOST_KEPT],
        np.concatenate(logits) if logits else None,
    )


def _reference(network: FeatureNetwork, images: np.ndarray) -> tuple[Features, str]:
    """The features of the data, from the cache or made and put there, and their key."""
    digest = hashlib.sha256()
    for block in _blocks(images):
        digest.update(np.ascontiguousarray(block).tobytes())
    key = {
        "version": _REFERENCE_VERSION,
        "images": digest.hexdigest(),
        "shape": list(images.shape),
        "network": network.name,
        "network_sha256": network.sha256,
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    path = files.cache_dir() / "references" / f"{name}.npz"
    if not path.exists():
        found = _features(network, _blocks(images), len(images), "reference")
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_npz(path, **found.moments._asdict(), kept=found.kept)
    try:
        with path.open("rb") as stored, np.load(stored, allow_pickle=False) as saved:
            moments = frechet.Moments(int(saved["count"]), saved["mean"], saved["scatter"])
            return Features(moments, saved["kept"], None), name
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise errors.UserError(
            f"{path}: the reference cannot be read ({errors.one_line(error)}); delete it, and it "
            "is made again"
        ) from error


def _blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(images), generate.BLOCK):
        yield images[first : first + generate.BLOCK]


def _reconstruction_error(config: Config, state: TrainState, images: np.ndarray) -> float:
    """Mean |x − D(x)| over images, pixels and channels, in the unit of [−0.5, 0.5]."""
    x = np.asarray(images)
    reconstructed = generate.reconstructed(config, state, x)
    difference = x.astype(np.float32) - reconstructed.astype(np.float32)
    return float(np.abs(difference).mean() / 255.0)


def _ms_ssim(images: np.ndarray, seed: int) -> float:
    return ms_ssim.diversity(np.asarray(images), num_pairs=_PAIRS, seed=seed)


def _mean_and_spread(values: list[float]) -> dict[str, Any]:
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": spread, "values": values}
