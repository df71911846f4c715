"""How good and how varied a checkpoint's samples are: a report with all that defines it."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from began_jax import backends, data, errors, features, files, generate, restoring, telemetry
from began_jax.config import Config
from began_jax.features import Features
from began_jax.metrics import (
    coverage,
    frechet,
    inception_score,
    kernel,
    ms_ssim,
    networks,
    precision_recall,
)
from began_jax.metrics.networks import FeatureNetwork
from began_jax.train_state import TrainState

_SUBSET = 1000  # features, of the kernel distance
_PAIRS = 1000  # of images, for MS-SSIM

Report = dict[str, Any]


class Factors(NamedTuple):
    """What the coverage of the true factors needs, where the data has known ones."""

    regressor: coverage.Regressor
    of_data: np.ndarray  # (N, 17), of the images compared with
    coverage_of_data: dict[str, float]  # of one half of these by the other: what can be reached


class Comparison(NamedTuple):
    """What samples of a run's checkpoints are compared with, and how."""

    config: Config
    network: FeatureNetwork
    real: np.ndarray  # uint8 (N, R, R, C), images of the run's data
    reference: Features  # of these
    reference_key: str
    ms_ssim_of_data: float
    num: int  # samples of a seed
    seeds: Sequence[int]
    average: bool  # G's moving average, where the run keeps one
    factors: Factors | None


def prepare(
    config: Config,
    images: np.ndarray,
    network: FeatureNetwork,
    *,
    num: int,
    seeds: Sequence[int],
    average: bool = True,
    with_factors: bool = False,
) -> Comparison:
    """Compares `num` samples of each seed with as many of the images, where there are so many.

    `with_factors`: also by the factors of synthetic faces, whose regressor is trained first where
    the cache has none; of other data it changes nothing.

    Raises:
      UserError: too few of either, or a reference that cannot be read.
    """
    if min(num, len(images)) < _SUBSET:
        raise errors.UserError(
            f"--num={num}: samples and images of the data ({len(images)}), "
            f"{_SUBSET} of each are needed at least"
        )
    real = images[:num]
    reference, key = features.reference(network, real)
    of_data = _ms_ssim(real[: 2 * _PAIRS], seeds[0])
    factors = None
    if with_factors and config.data.source == "synthetic_faces":
        regressor = coverage.regressor(config.model.resolution, config.model.channels)
        read = coverage.read(regressor, np.asarray(real))
        factors = Factors(regressor, read, coverage.coverage(read[::2], read[1::2]))
    return Comparison(config, network, real, reference, key, of_data, num, seeds, average, factors)


def report(comparison: Comparison, state: TrainState, m_global: float | None) -> Report:
    """The metrics of a state's samples: of each the mean over seeds, and the standard deviation.

    `m_global` is what the run measured itself, see `recorded_m_global`.
    """
    c = comparison
    by_seed = [_metrics(c, state, seed) for seed in c.seeds]
    has_average = state.generator_average is not None
    return {
        "step": int(state.step),
        "images": int(state.step) * c.config.train.batch_size,
        "generator": "average" if c.average and has_average else "raw",
        "num_samples": c.num,
        "num_reference": len(c.real),
        "seeds": list(c.seeds),
        "network": c.network.name,
        "network_sha256": c.network.sha256,
        "reference": c.reference_key,
        "commit": telemetry.commit(),
        "m_global": m_global,
        "ms_ssim_of_data": c.ms_ssim_of_data,
        "reconstruction_error": _reconstruction_error(c.config, state, c.real[:_PAIRS]),
        "regressor": None
        if c.factors is None
        else {
            "sha256": c.factors.regressor.sha256,
            "held_out": c.factors.regressor.held_out,
            "coverage_of_data": c.factors.coverage_of_data,
        },
        "metrics": {name: _mean_and_spread([one[name] for one in by_seed]) for name in by_seed[0]},
    }


def write(workdir: Path, report: Report) -> Path:
    """Writes eval/<network>/<step>.json, a line of its table.csv, and TensorBoard's eval/*."""
    folder = workdir / "eval" / report["network"]
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{report['step']:08d}.json"
    files.write_text(out, json.dumps(report, indent=2) + "\n")
    reports = [files.read_json(path) for path in sorted(folder.glob("[0-9]*.json"))]
    files.write_text(folder / "table.csv", _table(reports, list(report["metrics"])))
    telemetry.write_evaluation(workdir, report["step"], _means(report))
    return out


def evaluate(
    workdir: Path,
    *,
    steps: Sequence[int | None],
    network: FeatureNetwork,
    num: int,
    seeds: Sequence[int],
    average: bool,
) -> Iterator[tuple[Path, Report]]:
    """Writes and yields the report of each of a run's checkpoints (None: of the newest).

    In the end correlations.json beside the reports has the correlations over these checkpoints.

    Raises:
      UserError: no such checkpoint, too few samples, or a reference that cannot be read.
    """
    config, _ = restoring.restore(workdir, steps[0])  # raises, if at all, before the long work
    images = data.load(
        config.data, resolution=config.model.resolution, channels=config.model.channels
    )
    comparison = prepare(
        config, images, network, num=num, seeds=seeds, average=average, with_factors=True
    )
    reports = []
    for wanted in steps:
        _, state = restoring.restore(workdir, wanted)
        found = report(comparison, state, recorded_m_global(workdir, config, int(state.step)))
        reports.append(found)
        yield write(workdir, found), found
    if ranks := correlations(reports):
        text = {"steps": [one["step"] for one in reports], "num_samples": num, **ranks}
        path = workdir / "eval" / network.name / "correlations.json"
        files.write_text(path, json.dumps(text, indent=2) + "\n")


def in_training(config: Config, images: np.ndarray) -> Comparison:
    """The cheap comparison that `eval.every_steps` asks for: one seed, no regressor to be trained.

    Raises:
      UserError: the feature network's file, or too few images.
    """
    weights = config.eval.weights
    network = networks.load(config.eval.network, Path(weights) if weights else None)
    num = config.eval.samples_in_training
    return prepare(backends.for_one_pass(config), images, network, num=num, seeds=[0])


def recorded_m_global(workdir: Path, config: Config, step: int) -> float | None:
    """The mean of M_global over the steps since the checkpoint before, by metrics.jsonl."""
    first = step - config.train.checkpoint_every_steps
    values = [
        record["m_global"]
        for record in restoring.records(workdir)
        if first < record["step"] <= step
    ]
    return statistics.fmean(values) if values else None


def correlations(reports: Sequence[Report]) -> dict[str, float]:
    """Spearman's rank correlation of M_global with every metric, over checkpoints.

    Only those with a recorded M_global count; there is none of fewer than 3, nor of a metric that
    never changes.
    """
    known = [one for one in reports if one["m_global"] is not None]
    if len(known) < 3:
        return {}
    m_global = [one["m_global"] for one in known]
    columns = {name: [_means(one)[name] for one in known] for name in _means(known[0])}
    return {
        name: float(stats.spearmanr(m_global, values).statistic)
        for name, values in columns.items()
        if len(set(values)) > 1
    }


def summary(report: Report) -> str:
    """A report's metrics in one line, but for the single factors' coverage."""
    return ", ".join(
        f"{name} {of['mean']:.4g}" + ("" if of["std"] is None else f" ± {of['std']:.2g}")
        for name, of in report["metrics"].items()
        if not name.startswith("coverage_")
    )


def _metrics(c: Comparison, state: TrainState, seed: int) -> dict[str, float]:
    shown: list[np.ndarray] = []
    factors: list[np.ndarray] = []

    def noted(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            if sum(map(len, shown)) < 2 * _PAIRS:
                shown.append(block)
            if c.factors is not None:
                factors.append(coverage.read(c.factors.regressor, block))
            yield block

    samples = generate.samples(c.config, state, c.num, seed=seed, average=c.average)
    found = features.of_blocks(c.network, noted(samples), c.num, f"seed {seed}")
    precision, recall = precision_recall.precision_recall(c.reference.kept, found.kept)
    distance, _ = kernel.distance(
        found.kept, c.reference.kept, subset_size=_SUBSET, num_subsets=50, seed=seed
    )
    metrics = {
        f"fd_{c.network.name}": frechet.distance(found.moments, c.reference.moments),
        f"kd_{c.network.name}": distance,
        "precision": precision,
        "recall": recall,
        "ms_ssim": _ms_ssim(np.concatenate(shown), seed),
    }
    if found.classes is not None:
        metrics[f"score_{c.network.name}"] = inception_score.score(found.classes)[0]
    if c.factors is not None:
        covered = coverage.coverage(np.concatenate(factors), c.factors.of_data)
        metrics["coverage"] = statistics.fmean(covered.values())
        metrics.update({f"coverage_{name}": value for name, value in covered.items()})
    return metrics


def _table(reports: Sequence[Report], names: Sequence[str]) -> str:
    """CSV, a line for each report: the means of its metrics."""
    lines = [",".join(["step", "images", "num_samples", "m_global", *names])]
    for one in reports:
        m_global = "" if one["m_global"] is None else one["m_global"]
        values = [one["step"], one["images"], one["num_samples"], m_global]
        lines.append(",".join(map(str, [*values, *(_means(one).get(name, "") for name in names)])))
    return "\n".join(lines) + "\n"


def _means(report: Report) -> Mapping[str, float]:
    return {name: of["mean"] for name, of in report["metrics"].items()}


def _reconstruction_error(config: Config, state: TrainState, images: np.ndarray) -> float:
    """Mean |x − D(x)| over images, pixels and channels, in the unit of [−0.5, 0.5]."""
    x = np.asarray(images)
    difference = x / 255.0 - 0.5 - generate.reconstructed(config, state, x)
    return float(np.abs(difference).mean())


def _ms_ssim(images: np.ndarray, seed: int) -> float:
    return ms_ssim.diversity(np.asarray(images), num_pairs=_PAIRS, seed=seed)


def _mean_and_spread(values: list[float]) -> dict[str, Any]:
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": spread, "values": values}
