"""Reports on a checkpoint, in a feature network that is quick and can be followed by hand."""

import json

import numpy as np
import pytest
from jax import numpy as jnp

from began_jax import errors, evaluate, generate, restoring, train
from began_jax.metrics import frechet
from began_jax.metrics.networks import FeatureNetwork
from tests.conftest import make_config

R, NUM = 16, 70


def quadrants(params, images):
    """Means of the four quadrants' channels, (B, 12)."""
    halves = images.astype(jnp.float32).reshape(len(images), 2, R // 2, 2, R // 2, 3)
    return params * halves.mean((2, 4)).reshape(len(images), -1), None


NETWORK = FeatureNetwork("quadrants", "sha", jnp.float32(1.0), quadrants)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluate")
    images = np.random.default_rng(0).integers(0, 256, (90, R, R, 3), np.uint8)
    np.save(root / "x.npy", images)
    config = make_config(data__source="array", data__path=str(root / "x.npy"))
    train.train(config, root / "run")
    return root / "run", images


@pytest.fixture(autouse=True)
def small_sets(monkeypatch):
    monkeypatch.setattr(evaluate, "_SUBSET", 20)
    monkeypatch.setattr(evaluate, "_PAIRS", 5)


def report(workdir, **options):
    options = {"steps": [None], "num": NUM, "seed": 0, "num_seeds": 2, "average": True, **options}
    (path,) = evaluate.evaluate(workdir, network=NETWORK, **options)
    return path, json.loads(path.read_text())


def test_a_report_says_what_it_measured_and_how(run):
    workdir, images = run
    path, found = report(workdir)
    assert path == workdir / "eval" / "quadrants" / "00000006.json"
    assert found["step"] == 6
    assert found["images"] == 24
    assert found["num_samples"] == found["num_reference"] == NUM
    assert found["seeds"] == [0, 1]
    assert found["generator"] == "average"
    assert (found["network"], found["network_sha256"]) == ("quadrants", "sha")
    assert len(found["reference"]) == 64

    # The distance by hand: the same samples, the same network, all at once.
    config, state = restoring.restore(workdir, None)
    real = frechet.add(frechet.empty(12), np.asarray(quadrants(1.0, jnp.asarray(images[:NUM]))[0]))
    expected = []
    for seed in (0, 1):
        samples = np.concatenate(list(generate.samples(config, state, NUM, seed=seed)))
        features = np.asarray(quadrants(1.0, jnp.asarray(samples))[0])
        expected.append(frechet.distance(frechet.add(frechet.empty(12), features), real))
    distance = found["metrics"]["fd_quadrants"]
    np.testing.assert_allclose(distance["values"], expected, rtol=1e-5)
    assert distance["mean"] == pytest.approx(np.mean(expected), rel=1e-5)
    assert distance["std"] == pytest.approx(np.std(expected, ddof=1), rel=1e-3)

    table = (workdir / "eval" / "quadrants" / "table.csv").read_text().splitlines()
    assert table[0].startswith("step,images,num_samples,fd_quadrants,kd_quadrants,precision,recall")
    assert table[1].startswith(f"6,24,70,{distance['mean']}")
    assert f"fd_quadrants {distance['mean']:.4g} ± " in evaluate.summary(path)


def test_the_reference_comes_from_the_cache_and_a_damaged_one_is_told(run, cache_dir):
    workdir, _ = run
    _, first = report(workdir)
    (kept,) = (cache_dir / "references").iterdir()
    before = kept.stat().st_mtime_ns
    _, second = report(workdir)
    assert second["metrics"] == first["metrics"]
    assert kept.stat().st_mtime_ns == before

    kept.write_bytes(kept.read_bytes()[:100])
    with pytest.raises(errors.UserError, match="the reference cannot be read") as raised:
        report(workdir)
    assert len(str(raised.value).splitlines()) == 1
    assert "delete it" in str(raised.value)


def test_another_network_and_other_images_have_other_references(run, cache_dir):
    workdir, _ = run
    _, first = report(workdir)
    _, fewer = report(workdir, num=60)
    assert fewer["reference"] != first["reference"]


def test_too_few_samples_are_told(run):
    workdir, _ = run
    with pytest.raises(errors.UserError, match="--num=19: samples and images of the data"):
        report(workdir, num=19)
