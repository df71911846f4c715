import itertools

import numpy as np
import pytest

from began_jax.metrics import frechet, inception_score, kernel, precision_recall
from began_jax.metrics import ms_ssim as ms


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def correlated(seed, num, size):
    """Features whose covariance is not diagonal and whose mean is not 0."""
    return normal(seed, num, size) @ normal(seed + 1, size, size) + normal(seed + 2, size)


def moments(features, *bounds):
    result = frechet.empty(features.shape[1])
    for part in np.split(features, bounds):
        result = frechet.add(result, part)
    return result


# The Fréchet distance.


def test_frechet_moments_are_numpy_s():
    features = correlated(0, 50, 6)
    found = moments(features)
    assert found.count == 50
    np.testing.assert_allclose(found.mean, features.mean(axis=0), atol=1e-13)
    np.testing.assert_allclose(
        frechet.covariance(found), np.cov(features, rowvar=False), atol=1e-12
    )


def test_frechet_moments_in_blocks_are_those_of_the_whole():
    features = correlated(0, 50, 6)
    whole, blocks = moments(features), moments(features, 1, 1, 8, 30)  # one block is empty
    assert whole.count == blocks.count
    np.testing.assert_allclose(whole.mean, blocks.mean, atol=1e-13)
    np.testing.assert_allclose(whole.scatter, blocks.scatter, atol=1e-11)


def test_frechet_moments_keep_a_small_deviation_from_a_large_mean():
    deviations = normal(0, 1000, 3)
    found = moments(deviations + 1e8, 10, 500)
    # Adding 1e8 rounds the deviations themselves to 1e-8; sums of squares would lose them all.
    np.testing.assert_allclose(
        frechet.covariance(found), np.cov(deviations, rowvar=False), atol=1e-6
    )


def test_frechet_moments_of_float32_features_are_float64():
    found = moments(np.full((4, 2), 0.1, np.float32), 2)
    assert found.mean.dtype == found.scatter.dtype == np.float64


def gaussian(mean, covariance, count=1000):
    return frechet.Moments(count, np.asarray(mean), np.asarray(covariance) * (count - 1))


def test_frechet_distance_of_a_shared_covariance_is_that_of_the_means():
    root = normal(0, 5, 5)
    mean, shift = normal(1, 5), normal(2, 5)
    a, b = gaussian(mean, root @ root.T), gaussian(mean + shift, root @ root.T, count=70)
    assert frechet.distance(a, b) == pytest.approx(shift @ shift, rel=1e-12)


def test_frechet_distance_of_independent_numbers_is_that_of_means_and_deviations():
    a, b = gaussian([0.0, 1.0], np.diag([4.0, 9.0])), gaussian([2.0, 1.0], np.diag([1.0, 25.0]))
    assert frechet.distance(a, b) == pytest.approx(2**2 + (2 - 1) ** 2 + (3 - 5) ** 2, rel=1e-12)


@pytest.mark.parametrize("num", [40, 4])  # more and fewer than the numbers of a feature
def test_frechet_distance_of_shifted_and_scaled_features_is_the_formula(num):
    features, shift = correlated(0, num, 6), normal(5, 6)
    a = moments(features)
    # Where the covariance is singular, roots of rounding errors.
    close = {"rel": 1e-6, "abs": 1e-6}
    assert frechet.distance(a, a) == pytest.approx(0.0, **close)
    shifted = moments(features + shift)
    assert frechet.distance(a, shifted) == pytest.approx(shift @ shift, **close)
    scaled = moments(3 * features)  # (3 − 1)² of each, means and deviations
    expected = 4 * (a.mean @ a.mean + np.trace(frechet.covariance(a)))
    assert frechet.distance(a, scaled) == pytest.approx(expected, **close)


def test_frechet_distance_is_the_published_formula_with_scipy_s_root():
    linalg = pytest.importorskip("scipy.linalg")
    a, b = moments(correlated(0, 60, 8)), moments(correlated(10, 80, 8))
    sigma_a, sigma_b = frechet.covariance(a), frechet.covariance(b)
    difference = a.mean - b.mean
    expected = difference @ difference + np.trace(
        sigma_a + sigma_b - 2 * np.real(linalg.sqrtm(sigma_a @ sigma_b))
    )
    assert frechet.distance(a, b) == pytest.approx(expected, rel=1e-10)
    assert frechet.distance(b, a) == pytest.approx(expected, rel=1e-10)


def test_frechet_tells_what_it_cannot_take():
    two, one, other = moments(normal(0, 2, 3)), moments(normal(0, 1, 3)), moments(normal(0, 9, 4))
    message = "1 and 2 feature vectors; needed are at least 2 of each"
    with pytest.raises(ValueError, match=message):
        frechet.distance(one, two)
    with pytest.raises(ValueError, match="features of 3 and 4 numbers; needed are equal"):
        frechet.distance(two, other)
    with pytest.raises(ValueError, match=r"features of shape \(5, 1\); needed is \(N, 3\)"):
        frechet.add(two, normal(0, 5, 1))


# The kernel distance.


def slow_kernel_distance(a, b):
    """The definition, one pair after the other."""

    def k(x, y):
        return (sum(x * y) / len(x) + 1) ** 3

    def within(x):
        return np.mean([k(x[i], x[j]) for i, j in itertools.permutations(range(len(x)), 2)])

    return within(a) + within(b) - 2 * np.mean([k(x, y) for x in a for y in b])


def test_kernel_distance_is_the_definition():
    a, b = correlated(0, 7, 3), correlated(10, 7, 3)
    mean, error = kernel.distance(a, b, size=7)
    assert mean == pytest.approx(slow_kernel_distance(a, b), rel=1e-12)
    assert error is None  # of one block there is no telling


def test_kernel_distance_is_the_mean_over_blocks_that_share_no_row():
    a, b = correlated(0, 11, 3), correlated(10, 13, 3)
    of_blocks = [slow_kernel_distance(a[i : i + 4], b[i : i + 4]) for i in (0, 4)]
    mean, error = kernel.distance(a, b, size=4)
    assert mean == pytest.approx(np.mean(of_blocks), rel=1e-12)
    assert error == pytest.approx(abs(of_blocks[0] - of_blocks[1]) / 2, rel=1e-9)


def test_kernel_distance_of_two_points_is_the_closed_form():
    a, b = np.tile([1.0, 0.0], (5, 1)), np.tile([1.0, 2.0], (6, 1))
    mean, _ = kernel.distance(a, b, size=3)
    assert mean == pytest.approx((1 / 2 + 1) ** 3 + (5 / 2 + 1) ** 3 - 2 * (1 / 2 + 1) ** 3)


def test_kernel_distance_of_one_distribution_is_0_on_average_and_at_times_negative():
    draws = normal(0, 600, 2, 10, 4)
    found = [kernel.distance(a, b, size=10)[0] for a, b in draws]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
    assert min(found) < 0 < max(found)


def test_kernel_distance_s_error_is_that_of_drawing_other_features():
    draws = normal(0, 400, 2, 60, 3)
    found = [kernel.distance(a, 0.5 * b + 1, size=10) for a, b in draws]
    means, errors = np.transpose(found)
    # The deviation of 400 means is known to 4%.
    assert np.std(means) == pytest.approx(np.sqrt(np.mean(errors**2)), rel=0.15)


@pytest.mark.parametrize(
    ("size_b", "size", "message"),
    [
        ((8, 2), 2, r"features of shapes \(9, 3\) and \(8, 2\); needed are \(N, F\), \(M, F\)"),
        ((8, 3), 1000, "size 1000 of 9 and 8 feature vectors; needed is at least 2 and no"),
        ((8, 3), 1, "size 1 of 9 and 8 feature vectors; needed is at least 2"),
    ],
)
def test_kernel_distance_tells_what_it_cannot_take(size_b, size, message):
    with pytest.raises(ValueError, match=message):
        kernel.distance(normal(0, 9, 3), normal(1, *size_b), size=size)


# The Inception score.


def score_of(logits, num_splits=10, block=None):
    splits = inception_score.empty(len(logits), logits.shape[1], num_splits)
    for first in range(0, len(logits), block or len(logits)):
        splits = inception_score.add(splits, logits[first : first + (block or len(logits))])
    return inception_score.score(splits)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_inception_score_in_blocks_is_that_of_the_whole(block):
    logits = 2 * normal(3, 103, 6)
    assert score_of(logits, block=block) == pytest.approx(score_of(logits), rel=1e-12)


def test_inception_score_of_sure_predictions_of_all_classes_is_their_number():
    logits = 1000 * np.tile(np.eye(5), (20, 1))
    assert score_of(logits) == pytest.approx((5, 0), abs=1e-12)


def test_inception_score_of_the_same_prediction_is_1():
    logits = np.tile(normal(0, 1, 5), (40, 1))
    assert score_of(logits) == pytest.approx((1, 0), abs=1e-12)


def test_inception_score_of_splits_of_one_class_each_is_1():
    logits = 1000 * np.repeat(np.eye(10), 3, axis=0)  # p of the other classes is 0 in float64
    assert score_of(logits) == pytest.approx((1, 0), abs=1e-12)
    assert score_of(logits, num_splits=1)[0] == pytest.approx(10)


def test_inception_score_is_the_definition_on_each_split():
    logits = 2 * normal(0, 7, 4)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = []
    for part in (p[:3], p[3:]):
        kl = [sum(row * np.log(row / part.mean(axis=0))) for row in part]
        expected.append(np.exp(np.mean(kl)))
    found = score_of(logits + 1e4, num_splits=2)  # a softmax knows no offset
    half_the_difference = abs(expected[0] - expected[1]) / 2
    assert half_the_difference > 0.01
    assert found == pytest.approx((np.mean(expected), half_the_difference), rel=1e-9)


def test_inception_score_tells_what_it_cannot_take():
    with pytest.raises(ValueError, match="num_splits 10 of 9 samples; needed is 1 to their number"):
        score_of(normal(0, 9, 3))
    with pytest.raises(ValueError, match="0 samples; needed are 20"):
        inception_score.score(inception_score.empty(20, 3))


# Precision and recall.


def slow_precision_recall(real, fake, k):
    def share(points, centers):
        balls = []
        for i, center in enumerate(centers):
            others = np.delete(centers, i, axis=0)
            balls.append((center, sorted(np.linalg.norm(others - center, axis=1))[k - 1]))
        inside = [any(np.linalg.norm(p - c) <= radius for c, radius in balls) for p in points]
        return np.mean(inside)

    return share(fake, real), share(real, fake)


@pytest.mark.parametrize("block", [7, 30, 1000])
@pytest.mark.parametrize("k", [1, 3])
def test_precision_recall_is_the_definition(k, block):
    real, fake = normal(0, 60, 4), 0.6 * normal(1, 45, 4) + 1.0
    found = precision_recall.precision_recall(real, fake, k=k, block=block)
    expected = slow_precision_recall(real, fake, k)
    assert 0 < expected[1] < expected[0] < 1
    assert found == pytest.approx(expected)


def test_precision_recall_takes_the_radii_that_are_known():
    real, fake = normal(0, 60, 4), 0.6 * normal(1, 45, 4) + 1.0
    radii = precision_recall.squared_radii(real, 3)
    found = precision_recall.precision_recall(real, fake, k=3, radii_of_real=radii)
    assert found == precision_recall.precision_recall(real, fake, k=3)
    shorter, _ = precision_recall.precision_recall(real, fake, k=3, radii_of_real=radii / 4)
    assert shorter < found[0]


def test_precision_recall_of_the_same_set_twice_is_1():
    points = normal(0, 30, 4)
    assert precision_recall.precision_recall(points, points, k=3) == (1.0, 1.0)


def test_precision_recall_of_sets_far_apart_is_0():
    real = normal(0, 30, 4)
    assert precision_recall.precision_recall(real, real + 100, k=3) == (0.0, 0.0)


def test_precision_recall_of_a_small_part_is_precise_and_misses_the_rest():
    real = np.sort(normal(0, 300, 1), axis=0)
    precision, recall = precision_recall.precision_recall(real, real[100:120], k=3)
    assert precision == 1.0
    assert 20 / 300 <= recall < 0.1


def test_a_point_is_not_its_own_neighbor_though_another_equals_it():
    real = np.array([[0.0], [0.0], [10.0]])
    # With k = 1 both points at 0 have radius 0 and the one at 10 reaches to 0.
    fake = np.array([[-1.0], [1.0], [12.0]])
    precision, _ = precision_recall.precision_recall(real, fake, k=1)
    assert precision == pytest.approx(2 / 3)


def test_a_ball_holds_its_surface():
    real = np.array([[0.0], [1.0], [3.0]])  # with k = 1 they reach to 1, 1, 2
    fake = np.array([[-1.0], [5.0], [6.0]])
    precision, _ = precision_recall.precision_recall(real, fake, k=1)
    assert precision == pytest.approx(2 / 3)


def test_precision_recall_tells_what_it_cannot_take():
    with pytest.raises(ValueError, match="k 3 of 3 feature vectors; needed is 1 or more, and less"):
        precision_recall.precision_recall(normal(0, 9, 2), normal(1, 3, 2), k=3)
    message = r"features of shapes \(9, 2\) and \(9, 1\); needed are \(N, F\), \(M, F\)"
    with pytest.raises(ValueError, match=message):
        precision_recall.precision_recall(normal(0, 9, 2), normal(1, 9, 1), k=3)


# MS-SSIM and diversity by it.


def smooth_images(seed, num, height, width=None, channels=3):
    """Waves of several lengths, 0..255."""
    width = width or height
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width][..., None, None] / 8
    frequencies, phases = rng.standard_normal((2, num, 1, 1, channels, 6))
    waves = np.sin(frequencies * x + frequencies[..., ::-1] * y + phases).mean(axis=-1)
    return np.rint(127.5 * (1 + waves)).astype(np.uint8)


def noisy(images, deviation, seed=9):
    noise = deviation * normal(seed, *images.shape)
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)


def direct_terms(a, b):
    """SSIM and its contrast and structure of two images (H, W), averaged over all windows."""
    distance = np.arange(11) - 5
    weights = np.exp(-(distance[:, None] ** 2 + distance**2) / (2 * 1.5**2))
    weights /= weights.sum()
    ssim, contrast_structure = [], []
    for y, x in itertools.product(range(a.shape[0] - 10), range(a.shape[1] - 10)):
        u, v = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
        mean_u, mean_v = (weights * u).sum(), (weights * v).sum()
        var_u, var_v = (weights * (u - mean_u) ** 2).sum(), (weights * (v - mean_v) ** 2).sum()
        covariance = (weights * (u - mean_u) * (v - mean_v)).sum()
        c1, c2 = 2.55**2, 7.65**2
        contrast_structure.append((2 * covariance + c2) / (var_u + var_v + c2))
        luminance = (2 * mean_u * mean_v + c1) / (mean_u**2 + mean_v**2 + c1)
        ssim.append(luminance * contrast_structure[-1])
    return np.mean(ssim), np.mean(contrast_structure)


def halved(x):
    return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).mean(axis=(1, 3))


def direct_ms_ssim(a, b, weights):
    """Of images (H, W, C) whose sides halve without a rest, one channel after the other."""
    channels = []
    for c in range(a.shape[2]):
        u, v = a[..., c].astype(float), b[..., c].astype(float)
        value = 1.0
        for scale, weight in enumerate(weights):
            ssim, contrast_structure = direct_terms(u, v)
            last = scale == len(weights) - 1
            value *= max(ssim if last else contrast_structure, 0) ** weight
            if not last:
                u, v = halved(u), halved(v)
        channels.append(value)
    return np.mean(channels)


@pytest.mark.parametrize("size", [11, 32, 64, 176])
def test_ms_ssim_of_an_image_with_itself_is_1(size):
    images = smooth_images(0, 2, size)
    np.testing.assert_allclose(ms.ms_ssim(images, images), [1, 1], rtol=1e-12)


@pytest.mark.parametrize(
    ("height", "width", "weights"),
    [
        (12, 16, [1]),
        (32, 24, [0.0448 / 0.3304, 0.2856 / 0.3304]),
        (64, 48, [0.0448 / 0.6305, 0.2856 / 0.6305, 0.3001 / 0.6305]),
        (176, 176, [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]),
    ],
)
def test_ms_ssim_is_the_definition(height, width, weights):
    num, channels = (1, 1) if height > 100 else (2, 2)  # as the definition takes its time
    a = smooth_images(0, num, height, width, channels)
    b = np.roll(noisy(a, 20), 1, axis=2) // 2 + 40  # other in noise, contrast and luminance
    expected = [direct_ms_ssim(x, y, weights) for x, y in zip(a, b, strict=True)]
    assert all(0.1 < value < 0.95 for value in expected)
    np.testing.assert_allclose(ms.ms_ssim(a, b), expected, rtol=1e-10)


def test_an_odd_last_row_or_column_is_dropped_when_halving():
    a = smooth_images(0, 1, 45, 33)
    b, c = a.copy(), noisy(a, 20)
    b[:, -1], b[:, :, -1] = 255 - b[:, -1], 255 - b[:, :, -1]
    np.testing.assert_array_equal(ms._halve(b.astype(float)), ms._halve(a.astype(float)))
    assert 0 < ms.ms_ssim(a, c)[0] < 1


def test_ms_ssim_falls_with_noise():
    a = smooth_images(0, 4, 64)
    found = [ms.ms_ssim(a, noisy(a, deviation)) for deviation in (0, 5, 20, 80)]
    assert np.all(np.diff(found, axis=0) < 0)
    assert np.all(found[-1] > 0)


def test_ms_ssim_of_an_image_and_its_negative_is_0():
    a = np.random.default_rng(0).integers(256, size=(3, 32, 32, 1), dtype=np.uint8)
    np.testing.assert_array_equal(ms.ms_ssim(a, 255 - a), [0, 0, 0])


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((2, 32, 32, 3), (2, 32, 32, 1), "images of shapes .* and .*; needed are equal"),
        ((32, 32, 3), (32, 32, 3), "images of shapes .* and .*; needed are equal"),
        ((2, 10, 32, 3), (2, 10, 32, 3), "images of 10×32 pixels; needed are at least 11×11"),
    ],
)
def test_ms_ssim_tells_what_it_cannot_take(a, b, message):
    with pytest.raises(ValueError, match=message):
        ms.ms_ssim(np.zeros(a, np.uint8), np.zeros(b, np.uint8))


def test_ms_ssim_does_not_take_floats():
    images = np.zeros((2, 32, 32, 3))
    with pytest.raises(ValueError, match=r"images of float64 and uint8; needed are uint8, 0\.\.25"):
        ms.ms_ssim(images, images.astype(np.uint8))


def test_diversity_is_the_mean_over_pairs_of_different_images():
    images = noisy(np.repeat(smooth_images(0, 1, 32), 3, axis=0), 20)
    pairs = [
        ms.ms_ssim(images[i : i + 1], images[j : j + 1])[0]
        for i, j in itertools.permutations(range(3), 2)
    ]
    # The mean of 250 draws, more than a block; a pair of equal images would be 1.
    error = np.std(pairs) / np.sqrt(250)
    assert ms.diversity(images, num_pairs=250, seed=0) == pytest.approx(
        np.mean(pairs), abs=4 * error
    )
    assert max(pairs) + 40 * error < 1


def test_diversity_is_higher_for_images_that_are_more_alike():
    alike = noisy(np.repeat(smooth_images(0, 1, 32), 8, axis=0), 10)
    varied = smooth_images(1, 8, 32)
    same = np.repeat(varied[:1], 8, axis=0)
    found = [ms.diversity(x, num_pairs=20, seed=0) for x in (same, alike, varied)]
    assert found[0] == pytest.approx(1)
    assert found[0] > found[1] > found[2]


def test_diversity_depends_on_its_seed_alone():
    images = noisy(np.repeat(smooth_images(0, 1, 16), 8, axis=0), 20)
    found = [ms.diversity(images, num_pairs=5, seed=s) for s in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(("num", "num_pairs"), [(1, 5), (5, 0)])
def test_diversity_tells_what_it_cannot_take(num, num_pairs):
    message = f"{num_pairs} pairs of {num} images; needed are at least 1 pair of 2 images"
    with pytest.raises(ValueError, match=message):
        ms.diversity(smooth_images(0, num, 16), num_pairs=num_pairs, seed=0)
