"""Reports on a checkpoint, in a feature network that is quick and can be followed by hand."""

import dataclasses
import json

import numpy as np
import pytest
from jax import numpy as jnp

from began_jax import checkpoints, errors, evaluate, generate, restoring, train
from began_jax.data.synthetic_faces import FACTORS
from began_jax.metrics import coverage, frechet
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
    options = {"steps": [None], "num": NUM, "seeds": [0, 1], "average": True, **options}
    ((path, found),) = evaluate.evaluate(workdir, network=NETWORK, **options)
    assert json.loads(path.read_text()) == found
    return path, found


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
    head = "step,images,num_samples,m_global,fd_quadrants,kd_quadrants,precision,recall"
    assert table[0].startswith(head)
    assert table[1].startswith(f"6,24,70,{found['m_global']},{distance['mean']}")
    assert f"fd_quadrants {distance['mean']:.4g} ± " in evaluate.summary(found)


def test_m_global_is_that_of_the_steps_since_the_checkpoint_before(run):
    workdir, _ = run
    config = restoring.load_config(workdir)
    values = {record["step"]: record["m_global"] for record in restoring.records(workdir)}
    assert list(values) == [2, 4, 6]
    every_two = dataclasses.replace(config.train, checkpoint_every_steps=4)
    config = dataclasses.replace(config, train=every_two)
    recorded = evaluate.recorded_m_global(workdir, config, 6)
    assert recorded == pytest.approx((values[4] + values[6]) / 2)
    assert evaluate.recorded_m_global(workdir / "nowhere", config, 6) is None


def test_a_torn_last_record_of_a_killed_run_is_left_out(run, tmp_path):
    workdir, _ = run
    text = (workdir / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 8, "m_gl')
    assert restoring.records(tmp_path) == restoring.records(workdir)
    (tmp_path / "metrics.jsonl").write_text('{"step": \n' + text)
    with pytest.raises(errors.UserError, match=r"metrics\.jsonl: cannot be read"):
        restoring.records(tmp_path)


def test_the_reconstruction_error_is_that_of_floats(run):
    workdir, images = run
    _, found = report(workdir)
    config, state = restoring.restore(workdir, None)
    looked_at = images[:5]  # as many as the pairs
    x = looked_at / 255.0 - 0.5
    reconstructed = np.asarray(generate.reconstructions(config, state, looked_at))
    expected = np.abs(x - reconstructed).mean()
    assert found["reconstruction_error"] == pytest.approx(expected, rel=1e-4)


def fake_report(m_global, **means):
    metrics = {name: {"mean": value, "std": None} for name, value in means.items()}
    return {"m_global": m_global, "metrics": metrics}


def test_correlations_are_of_ranks():
    reports = [
        fake_report(0.1, fd=9.0, recall=0.1, precision=1.0),
        fake_report(0.2, fd=10.0, recall=0.0, precision=1.0),
        fake_report(0.4, fd=1e6, recall=-3.0, precision=1.0),
        fake_report(None, fd=0.0, recall=0.0, precision=0.0),
    ]
    assert evaluate.correlations(reports) == {"fd": pytest.approx(1), "recall": pytest.approx(-1)}
    assert evaluate.correlations(reports[1:]) == {}


def test_the_correlations_over_the_checkpoints_are_written(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (40, R, R, 3), np.uint8))
    config = make_config(
        data__source="array",
        data__path=str(tmp_path / "x.npy"),
        train__checkpoint_every_steps=2,
    )
    train.train(config, tmp_path / "run")
    options = {"num": 30, "seeds": [0], "average": True, "network": NETWORK}
    found = list(evaluate.evaluate(tmp_path / "run", steps=[2, 4, 6], **options))
    path = tmp_path / "run" / "eval" / "quadrants" / "correlations.json"
    written = json.loads(path.read_text())
    assert written["steps"] == [2, 4, 6]
    ranks = evaluate.correlations([report for _, report in found])
    assert {name: written[name] for name in ranks} == ranks
    assert "fd_quadrants" in ranks
    table = (path.parent / "table.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table] == ["step", "2", "4", "6"]


def test_of_synthetic_faces_the_coverage_of_their_factors_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(coverage, "_NUM_TRAINING", 300)
    monkeypatch.setattr(coverage, "_NUM_HELD_OUT", 50)
    monkeypatch.setattr(coverage, "_STEPS", 5)
    train.train(make_config(), tmp_path / "run")
    _, found = report(tmp_path / "run", num=30)
    names = [factor.name for factor in FACTORS]
    of_factors = [found["metrics"][f"coverage_{name}"]["mean"] for name in names]
    assert found["metrics"]["coverage"]["mean"] == pytest.approx(np.mean(of_factors))
    # Its untrained samples are much alike, the data is not.
    assert np.mean(of_factors) < np.mean(list(found["regressor"]["coverage_of_data"].values()))
    assert set(found["regressor"]["held_out"]) == set(names)
    assert "coverage_yaw" not in evaluate.summary(found)


def test_training_evaluates_at_its_steps_and_ends_as_if_it_had_not(tmp_path):
    plain = make_config(train__checkpoint_every_steps=2)
    evaluating = {"eval__every_steps": 4, "eval__samples_in_training": 1000}
    often = make_config(train__checkpoint_every_steps=2, **evaluating)
    fingerprints = []
    for name, config in (("plain", plain), ("often", often)):
        train.train(config, tmp_path / name)
        _, state = restoring.restore(tmp_path / name, None)
        fingerprints.append(checkpoints.fingerprint(state))
    assert fingerprints[0] == fingerprints[1]

    (written,) = (tmp_path / "often" / "eval" / "random_conv").glob("*.json")
    found = json.loads(written.read_text())
    assert (found["step"], found["num_samples"], found["seeds"]) == (4, 1000, [0])
    assert found["m_global"] == restoring.records(tmp_path / "often")[1]["m_global"]
    assert found["metrics"]["fd_random_conv"]["mean"] > 0
    assert not (tmp_path / "plain" / "eval").exists()


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
