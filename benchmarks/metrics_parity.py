"""The metrics beside those of torch-fidelity and pytorch-msssim, on the same features and images.

    python -m benchmarks.metrics_parity

Needs requirements-bench.txt. Ends with 1 where a metric differs by more than 1e-6 of its value (the
kernel distance, theirs over random subsets, ours over blocks: by more than four standard errors).
"""

import sys

import numpy as np

from began_jax.metrics import frechet, inception_score, kernel, ms_ssim, precision_recall

_TOLERANCE = 1e-6


def main() -> int:
    """Prints each metric, the package's value and their relative difference."""
    import pytorch_msssim
    import torch
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

    worst = 0.0
    print(f"{'metric':40} ours, the package's, relative difference")

    def compare(name: str, ours: float, theirs: float) -> None:
        nonlocal worst
        difference = abs(ours - theirs) / abs(theirs)
        worst = max(worst, difference)
        print(f"{name:40} {ours:.10g}  {theirs:.10g}  {difference:.1e}")

    for num, size in ((2000, 64), (3000, 512), (300, 512)):
        sets = _features(0, num, size), _features(1, num + 100, size)
        ours = frechet.distance(*(frechet.add(frechet.empty(size), x) for x in sets))
        statistics = [metric_fid.fid_features_to_statistics(torch.tensor(x)) for x in sets]
        theirs = metric_fid.fid_statistics_to_metric(*statistics, False)
        compare(f"Fréchet, N {num}, F {size}", ours, theirs["frechet_inception_distance"])

    a, b = _features(0, 1500, 256), _features(1, 1500, 256)
    tensors = torch.tensor(a), torch.tensor(b)
    options = {"kid_subsets": 2, "kid_subset_size": 1500, "rng_seed": 0, "verbose": False}
    mean, _ = kernel.distance(a, b, size=1500)
    theirs = metric_kid.kid_features_to_metric(*tensors, **options)
    compare("kernel, all in one subset", mean, theirs["kernel_inception_distance_mean"])

    options.update(kid_subsets=100, kid_subset_size=200)
    mean, error = kernel.distance(a, b, size=200)
    assert error is not None
    theirs = metric_kid.kid_features_to_metric(*tensors, **options)
    off = abs(mean - theirs["kernel_inception_distance_mean"]) / error
    print(f"kernel, of 200 at a time: {off:.1f} standard errors apart")

    logits = 3 * np.random.default_rng(0).standard_normal((1003, 50))
    theirs = metric_isc.isc_features_to_metric(torch.tensor(logits), shuffle=False)
    splits = inception_score.add(inception_score.empty(*logits.shape), logits)
    scores = zip(inception_score.score(splits), theirs.values(), strict=True)
    for name, (ours, expected) in zip(("mean", "deviation"), scores, strict=True):
        compare(f"Inception score, {name}", ours, expected)

    real, fake = _features(0, 700, 16), 0.8 * _features(1, 500, 16)
    both = precision_recall.precision_recall(real, fake, k=3, block=100)
    theirs = metric_prc.calculate_precision_recall_full(torch.tensor(fake), torch.tensor(real))
    for name, ours, expected in zip(("precision", "recall"), both, theirs, strict=True):
        compare(name, ours, float(expected))

    images, noisy = _images(176)
    tensors = tuple(torch.tensor(x).permute(0, 3, 1, 2).double() for x in (images, noisy))
    window = torch.exp(-((torch.arange(11).double() - 5) ** 2) / 4.5)
    window = (window / window.sum()).reshape(1, 1, 1, 11).repeat(3, 1, 1, 1)  # its own is float32
    theirs = pytorch_msssim.ms_ssim(*tensors, data_range=255, size_average=False, win=window)
    for i, (ours, expected) in enumerate(zip(ms_ssim.ms_ssim(images, noisy), theirs, strict=True)):
        compare(f"MS-SSIM, 176×176, pair {i}", float(ours), float(expected))
    agree = worst <= _TOLERANCE and off <= 4
    print(f"{'they agree' if agree else 'they do NOT agree'}: at most {worst:.1e} apart")
    return int(not agree)


def _features(seed: int, num: int, size: int) -> np.ndarray:
    """Like a network's: correlated, cut off at 0."""
    mixing = np.random.default_rng(7).standard_normal((size, size)) / np.sqrt(size)
    raw = np.random.default_rng(seed).standard_normal((num, size))
    return np.maximum(raw @ mixing + 0.1 * (seed > 0), 0.0)


def _images(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Four smooth images, uint8 (4, side, side, 3), and the same with noise."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side][..., None, None] / 8
    frequency, phase = generator.standard_normal((2, 4, 1, 1, 3, 6))
    waves = np.sin(frequency * x + frequency[..., ::-1] * y + phase).mean(-1)
    images = np.rint(127.5 * (1 + waves))
    noisy = np.clip(np.rint(images + 25 * generator.standard_normal(images.shape)), 0, 255)
    return images.astype(np.uint8), noisy.astype(np.uint8)


if __name__ == "__main__":
    sys.exit(main())
