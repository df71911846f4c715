"""How good and how varied a checkpoint's samples are: a report with all that defines it."""

import itertools
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from began_jax import (
    backends,
    checkpoints,
    errors,
    features,
    generate,
    objectives,
    progress,
    provenance,
    reports,
    restoring,
    run_folder,
)
from began_jax.config import ConfigError
from began_jax.data import order
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
from began_jax.reports import Metric, Report
from began_jax.schema import Config
from began_jax.train_state import TrainState

_KERNEL_BLOCK = 1000  # features, of the kernel distance
_PAIRS = 1000  # of images, for MS-SSIM
_RECONSTRUCTED = 1000  # images
_K = 3  # neighbours, of precision and recall


class Factors(NamedTuple):
    """What the coverage of the true factors needs, where the data has known ones."""

    regressor: coverage.Regressor
    of_data: np.ndarray  # (N, 17), of as many images as there are samples, at most half of all
    coverage_of_data: dict[str, float]  # of these by as many others: what can be reached


class Comparison(NamedTuple):
    """What samples of a run's checkpoints are compared with, and how."""

    config: Config
    network: FeatureNetwork
    images: np.ndarray  # uint8 (M, R, R, C), the run's data
    indices: np.ndarray  # of the images compared with
    reference: Features  # of these
    reference_key: str
    reference_radii: np.ndarray  # of the first `_num_kept`, see `precision_recall`
    ms_ssim_of_data: float
    num: int  # samples of a seed
    seeds: Sequence[int]
    average: bool  # G's moving average, where the run keeps one
    factors: Factors | None
    code: dict[str, Any]  # the program's commit


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
    """What it takes to compare `num` samples of each seed with as many images, if there are.

    `with_factors`: also by the factors of synthetic faces, whose regressor is trained first where
    the cache has none; of other data it changes nothing.

    Raises:
      UserError: too few of either, or a reference that cannot be read.
    """
    if num < _KERNEL_BLOCK:
        raise errors.UserError(f"--num={num}: {_KERNEL_BLOCK} samples are needed at least")
    if len(images) < _KERNEL_BLOCK:
        raise ConfigError(
            f"config.data: {len(images)} images; to evaluate, {_KERNEL_BLOCK} are needed at least"
        )
    # Asked now, as the files may change while this computes.
    code = {"commit": provenance.commit(), "uncommitted_changes": provenance.uncommitted_changes()}
    indices = order.subset(len(images), num)
    reference, key = features.reference(network, images, indices)
    if len(indices) <= (size := len(reference.moments.mean)):
        progress.say(
            f"{len(indices)} images of {size} features each: a Fréchet distance of no more images "
            "than features means little"
        )
    of_data = ms_ssim.diversity(images[indices[: 2 * _PAIRS]], num_pairs=_PAIRS, seed=0)
    factors = None
    if with_factors and config.data.source == "synthetic_faces":
        factors = _factors(config, images, num)
    return Comparison(
        config=config,
        network=network,
        images=images,
        indices=indices,
        reference=reference,
        reference_key=key,
        reference_radii=precision_recall.squared_radii(reference.kept[:num], _K),
        ms_ssim_of_data=of_data,
        num=num,
        seeds=seeds,
        average=average,
        factors=factors,
        code=code,
    )


def report(comparison: Comparison, state: TrainState, records: Sequence[dict[str, Any]]) -> Report:
    """The metrics of a state's samples, of each the mean and spread over seeds; see `Metric`.

    `records`: what the run recorded until then. docs/evaluation.md tells what each field is.
    """
    c = comparison
    over = c.config.train.checkpoint_every_steps
    m_global, covered = restoring.recorded_mean(records, "m_global", int(state.step), over)
    has_average = state.generator_average is not None
    return {
        "step": int(state.step),
        "images": int(state.step) * c.config.train.batch_size,
        "state_sha256": checkpoints.fingerprint(state),
        "rollbacks": int(state.rollbacks),
        "generator": "average" if c.average and has_average else "raw",
        "num_samples": c.num,
        "num_reference": len(c.indices),
        "seeds": list(c.seeds),
        "network": c.network.name,
        "network_sha256": c.network.sha256,
        "reference": c.reference_key,
        **c.code,
        "m_global": m_global,
        "m_global_over_steps": covered,
        "definitions": {
            "kernel_block_size": _KERNEL_BLOCK,
            "kernel_blocks": _num_kept(c) // _KERNEL_BLOCK,
            "precision_recall_k": _K,
            "precision_recall_of_each": _num_kept(c),
            "ms_ssim_pairs": _PAIRS,
            "ms_ssim_of_the_first": 2 * _PAIRS,
            "reconstructed_images": min(_RECONSTRUCTED, len(c.indices))
            if _reconstructs(c)
            else None,
            "score_splits": inception_score.NUM_SPLITS,
            "coverage_of_each": None if c.factors is None else len(c.factors.of_data),
        },
        "regressor": None
        if c.factors is None
        else {"sha256": c.factors.regressor.sha256, "held_out": c.factors.regressor.held_out},
        "metrics": _metrics(c, state),
    }


def evaluate(
    workdir: Path,
    *,
    step: int | None = None,
    every_checkpoint: bool = False,
    network: FeatureNetwork,
    num: int,
    seeds: Sequence[int],
    average: bool,
) -> Iterator[tuple[Path, Report]]:
    """Writes and yields the report of a run's checkpoint (None: of the newest), or of every one.

    Raises:
      UserError: no such checkpoint, too few samples, data that is not the run's, or a reference
        that cannot be read.
      OSError: the run's folder cannot be written.
    """
    if every_checkpoint:
        states = restoring.every_state(workdir)
    else:
        states = iter([restoring.restore(workdir, step)])
    first = next(states)  # raises, if at all, before the long work
    run_folder.check_writable(workdir)  # so does this
    records = restoring.records(workdir)
    config, _ = first
    images = restoring.load_data(workdir, config)
    comparison = prepare(
        config, images, network, num=num, seeds=seeds, average=average, with_factors=True
    )
    for _, state in itertools.chain([first], states):
        found = report(comparison, state, records)
        yield reports.write(workdir, found), found


def in_training(config: Config, images: np.ndarray) -> Comparison:
    """The comparison that `eval.every_steps` asks for: one seed, no regressor to be trained.

    Raises:
      UserError: the feature network's file, or too few images.
    """
    weights = config.eval.weights
    path = Path(weights).expanduser() if weights else None
    network = networks.load(config.eval.network, path)
    num = config.eval.samples_in_training
    return prepare(backends.for_one_pass(config), images, network, num=num, seeds=[0])


def _factors(config: Config, images: np.ndarray, num: int) -> Factors:
    regressor = coverage.regressor(config.model.resolution, config.model.channels)
    half = min(num, len(images) // 2)
    both = order.subset(len(images), 2 * half)
    read = np.concatenate([coverage.read(regressor, x) for x in features.take(images, both)])
    return Factors(regressor, read[:half], coverage.coverage(read[half:], read[:half]))


def _metrics(c: Comparison, state: TrainState) -> dict[str, Metric]:
    metrics, own_errors = zip(*(_of_seed(c, state, seed) for seed in c.seeds), strict=True)
    found = {name: reports.metric([of[name] for of in metrics]) for name in metrics[0]}
    for name, error in own_errors[0].items():
        if error is not None:
            found[name]["errors"] = [of[name] for of in own_errors]
    found["ms_ssim"]["of_data"] = c.ms_ssim_of_data
    if c.factors is not None:
        of_data = c.factors.coverage_of_data
        found["coverage"]["of_data"] = statistics.fmean(of_data.values())
        for name, value in of_data.items():
            found[f"coverage_{name}"]["of_data"] = value
    if _reconstructs(c):
        looked_at = c.images[c.indices[:_RECONSTRUCTED]]
        error = _reconstruction_error(c.config, state, looked_at)
        found["reconstruction_error"] = reports.metric([error])
    return found


def _of_seed(
    c: Comparison, state: TrainState, seed: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """The metrics of one seed's samples, and those metrics' own errors; see `Metric`."""
    shown: list[np.ndarray] = []
    factors: list[np.ndarray] = []

    def noted(samples: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for block in samples:
            if sum(map(len, shown)) < 2 * _PAIRS:
                shown.append(block)
            if c.factors is not None and sum(map(len, factors)) < len(c.factors.of_data):
                factors.append(coverage.read(c.factors.regressor, block))
            yield block

    samples = generate.samples(c.config, state, c.num, seed=seed, average=c.average)
    found = features.of_blocks(c.network, noted(samples), c.num, f"seed {seed}")
    fd, kd, score = (f"{name}_{c.network.name}" for name in ("fd", "kd", "score"))
    metrics = {fd: frechet.distance(found.moments, c.reference.moments)}
    own_errors: dict[str, Any] = {}
    metrics[kd], own_errors[kd] = kernel.distance(found.kept, c.reference.kept, size=_KERNEL_BLOCK)
    num = _num_kept(c)
    metrics["precision"], metrics["recall"] = precision_recall.precision_recall(
        c.reference.kept[:num], found.kept[:num], k=_K, radii_of_real=c.reference_radii
    )
    first = np.concatenate(shown)[: 2 * _PAIRS]
    metrics["ms_ssim"] = ms_ssim.diversity(first, num_pairs=_PAIRS, seed=seed)
    if found.classes is not None:
        metrics[score], own_errors[score] = inception_score.score(found.classes)
    if c.factors is not None:
        of_data = c.factors.of_data
        covered = coverage.coverage(np.concatenate(factors)[: len(of_data)], of_data)
        metrics["coverage"] = statistics.fmean(covered.values())
        metrics.update({f"coverage_{name}": value for name, value in covered.items()})
    return metrics, own_errors


def _num_kept(c: Comparison) -> int:
    """Features of samples and of data that are compared one by one: as many of each."""
    return min(c.num, len(c.reference.kept))


def _reconstructs(c: Comparison) -> bool:
    """Whether D has reconstructions that can be wrong."""
    return objectives.of(c.config).is_auto_encoder


def _reconstruction_error(config: Config, state: TrainState, images: np.ndarray) -> float:
    """Mean |x − D(x)| over images, pixels and channels, in the unit of [−0.5, 0.5]."""
    found = []
    for x in features.take(images, np.arange(len(images))):
        difference = x / 255.0 - 0.5 - generate.reconstructed(config, state, x)
        found.append(np.abs(difference).mean((1, 2, 3)))
    return float(np.concatenate(found).mean())
