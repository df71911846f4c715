"""Reports on a checkpoint, in a feature network that is quick and can be followed by hand."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from jax import numpy as jnp

from began_jax import checkpoints, errors, evaluate, features, generate, reports, restoring, train
from began_jax.config import ConfigError
from began_jax.data import order
from began_jax.data.synthetic_faces import FACTORS
from began_jax.metrics import coverage, frechet, kernel, ms_ssim, precision_recall
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
    monkeypatch.setattr(evaluate, "_RECONSTRUCTED", 5)


def report(workdir, **options):
    options = {"steps": [None], "num": NUM, "seeds": [0, 1], "average": True, **options}
    ((path, found),) = evaluate.evaluate(workdir, network=NETWORK, **options)
    assert json.loads(path.read_text()) == found
    return path, found


def features_of(images):
    return np.asarray(quadrants(1.0, jnp.asarray(images))[0])


def samples_of(workdir, seed, *, average=True):
    config, state = restoring.restore(workdir, None)
    return np.concatenate(list(generate.samples(config, state, NUM, seed=seed, average=average)))


def moments(features):
    return frechet.add(frechet.empty(12), features)


def test_a_report_says_what_it_measured_and_how(run):
    workdir, _ = run
    path, found = report(workdir)
    assert path == workdir / "eval" / "quadrants-70" / "00000006.json"
    assert found["step"] == 6
    assert found["images"] == 24
    assert found["num_samples"] == found["num_reference"] == NUM
    assert found["seeds"] == [0, 1]
    assert found["generator"] == "average"
    assert (found["network"], found["network_sha256"]) == ("quadrants", "sha")
    assert len(found["reference"]) == 64
    assert found["m_global_over_steps"] == 2000
    assert found["definitions"]["precision_recall_of_each"] == NUM


def test_every_metric_is_that_of_the_same_samples_and_data_all_at_once(run):
    workdir, images = run
    _, found = report(workdir)
    data = images[order.subset(len(images), NUM)]
    real = features_of(data)
    expected = {}
    for seed in (0, 1):
        samples = samples_of(workdir, seed)
        fake = features_of(samples)
        kd, error = kernel.distance(fake, real, subset_size=20, num_subsets=50, seed=seed)
        precision, recall = precision_recall.precision_recall(real, fake)
        values = {
            "fd_quadrants": frechet.distance(moments(fake), moments(real)),
            "kd_quadrants": kd,
            "precision": precision,
            "recall": recall,
            "ms_ssim": ms_ssim.diversity(samples[:64], num_pairs=5, seed=seed),
        }
        for name, value in {**values, "error": error}.items():
            expected.setdefault(name, []).append(value)
    metrics = found["metrics"]
    np.testing.assert_allclose(metrics["kd_quadrants"]["errors"], expected.pop("error"), rtol=1e-4)
    for name, values in expected.items():
        np.testing.assert_allclose(metrics[name]["values"], values, rtol=1e-4, err_msg=name)
    assert metrics["precision"] != metrics["recall"]
    of_data = ms_ssim.diversity(data[:10], num_pairs=5, seed=0)
    assert metrics["ms_ssim"]["of_data"] == pytest.approx(of_data)

    distance = metrics["fd_quadrants"]
    assert distance["mean"] == pytest.approx(np.mean(distance["values"]), rel=1e-9)
    assert distance["std"] == pytest.approx(np.std(distance["values"], ddof=1), rel=1e-6)
    assert f"fd_quadrants {distance['mean']:.4g} ± " in reports.summary(found)
    assert f"(data {of_data:.4g})" in reports.summary(found)


def test_the_table_has_a_line_for_each_report_and_what_tells_them_apart(run):
    workdir, _ = run
    path, found = report(workdir)
    with (path.parent / "table.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert (line["step"], line["images"], line["seeds"]) == ("6", "24", "0 1")
    assert line["network_sha256"] == "sha"
    for name, metric in found["metrics"].items():
        assert float(line[name]) == metric["mean"]
    assert float(line["fd_quadrants_std"]) == found["metrics"]["fd_quadrants"]["std"]

    # A report with other columns, as of an older version: each has its own.
    older = {**found, "step": 4, "metrics": {"old": {"mean": 1.0, "std": None}}}
    reports.write(workdir, older)
    with (path.parent / "table.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["step"], first["old"], first["recall"]) == ("4", "1.0", "")
    assert (second["step"], second["old"]) == ("6", "")
    (path.parent / "00000004.json").unlink()


def test_g_itself_is_measured_where_it_is_asked_for_and_kept_apart(run):
    workdir, images = run
    average_path, average = report(workdir)
    path, raw = report(workdir, average=False, seeds=[0])
    assert raw["generator"] == "raw"
    assert path == workdir / "eval" / "quadrants-raw-70" / "00000006.json"
    assert json.loads(average_path.read_text()) == average
    real = features_of(images[order.subset(len(images), NUM)])
    fake = features_of(samples_of(workdir, 0, average=False))
    expected = frechet.distance(moments(fake), moments(real))
    assert raw["metrics"]["fd_quadrants"]["values"] == pytest.approx([expected], rel=1e-4)
    assert (
        raw["metrics"]["fd_quadrants"]["values"][0]
        != average["metrics"]["fd_quadrants"]["values"][0]
    )


def test_tensorboard_has_the_means_under_the_folders_name(run, monkeypatch):
    workdir, _ = run
    written = {}

    def write(_, step, scalars):
        written.update({(step, name): value for name, value in scalars.items()})

    monkeypatch.setattr(reports.telemetry, "write_evaluation", write)
    _, found = report(workdir)
    assert written == {
        (6, f"eval/quadrants-70/{name}"): metric["mean"]
        for name, metric in found["metrics"].items()
    }


def test_samples_are_compared_with_the_runs_own_data_alone(run, tmp_path):
    workdir, images = run
    config = json.loads((workdir / "config.json").read_text())
    path = config["data"]["path"]
    np.save(path, images[::-1])
    with pytest.raises(ConfigError, match="images that are not those of"):
        report(workdir)
    np.save(path, images)
    report(workdir)


def test_of_fewer_images_precision_and_recall_take_as_many_samples(run):
    workdir, images = run
    _, found = report(workdir, num=150, seeds=[0])
    assert (found["num_samples"], found["num_reference"]) == (150, 90)
    assert found["definitions"]["precision_recall_of_each"] == 90
    real = features_of(images[order.subset(90, 150)])
    config, state = restoring.restore(workdir, None)
    fake = features_of(np.concatenate(list(generate.samples(config, state, 90, seed=0))))
    precision, recall = precision_recall.precision_recall(real, fake)
    assert found["metrics"]["precision"]["values"] == [precision]
    assert found["metrics"]["recall"]["values"] == [recall]


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
    looked_at = images[order.subset(len(images), 5)]
    x = looked_at / 255.0 - 0.5
    reconstructed = np.asarray(generate.reconstructions(config, state, looked_at))
    expected = np.abs(x - reconstructed).mean()
    assert found["metrics"]["reconstruction_error"]["mean"] == pytest.approx(expected, rel=1e-4)


def fake_report(m_global, **means):
    metrics = {name: {"mean": value, "std": None} for name, value in means.items()}
    return {"m_global": m_global, "metrics": metrics}


def test_correlations_are_of_ranks():
    made = [
        fake_report(0.1, fd=9.0, recall=0.1, precision=1.0),
        fake_report(0.2, fd=10.0, recall=0.0, precision=1.0),
        fake_report(0.4, fd=1e6, recall=-3.0, precision=1.0),
        fake_report(None, fd=0.0, recall=0.0, precision=0.0),
    ]
    assert reports.correlations(made) == {"fd": pytest.approx(1), "recall": pytest.approx(-1)}
    assert reports.correlations(made[1:]) == {}


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
    ranks = reports.write_correlations(tmp_path / "run", [report for _, report in found])
    assert ranks == reports.correlations([report for _, report in found])
    assert "fd_quadrants" in ranks
    path = tmp_path / "run" / "eval" / "quadrants-30" / "correlations.json"
    written = json.loads(path.read_text())
    assert written == {"steps": [2, 4, 6], "spearman_with_m_global": ranks}
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
    of_data = [found["metrics"][f"coverage_{name}"]["of_data"] for name in names]
    assert np.mean(of_factors) < np.mean(of_data)
    assert found["metrics"]["coverage"]["of_data"] == pytest.approx(np.mean(of_data))
    assert set(found["regressor"]["held_out"]) == set(names)
    assert "coverage_yaw" not in reports.summary(found)


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

    (written,) = (tmp_path / "often" / "eval" / "random_conv-1000").glob("*.json")
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


def test_other_images_networks_and_weights_have_other_references(run):
    _, images = run
    indices = order.subset(len(images), NUM)
    changed = images.copy()
    changed[indices[-1], 0, 0, 0] ^= 1
    cases = [
        (NETWORK, images, indices),
        (NETWORK, images, indices[:-1]),
        (NETWORK, changed, indices),
        (NETWORK._replace(name="other"), images, indices),
        (NETWORK._replace(sha256="other"), images, indices),
    ]
    keys = [features.reference(*case)[1] for case in cases]
    assert len(set(keys)) == len(cases)
    assert features.reference(*cases[0])[1] == keys[0]


def test_too_few_samples_and_too_few_images_are_told(run, monkeypatch):
    workdir, _ = run
    with pytest.raises(errors.UserError, match="--num=19: 20 samples are needed"):
        report(workdir, num=19)
    monkeypatch.setattr(evaluate, "_SUBSET", 91)
    with pytest.raises(ConfigError, match=r"config\.data: 90 images; to evaluate, 91"):
        report(workdir, num=91)


def test_training_that_cannot_evaluate_ends_before_it_makes_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "_SUBSET", 1000)
    evaluating = {"eval__every_steps": 4, "train__checkpoint_every_steps": 2}
    with pytest.raises(ConfigError, match="32 images; to evaluate, 1000"):
        train.train(make_config(**evaluating), tmp_path / "run")
    with pytest.raises(errors.UserError, match="--weights=/nowhere"):
        train.train(
            make_config(eval__network="efficientnet_lite0", eval__weights="/nowhere", **evaluating),
            tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()
