"""Reports on a checkpoint, in a feature network that is quick and can be followed by hand."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from jax import numpy as jnp
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from began_jax import (
    checkpoints,
    errors,
    evaluate,
    features,
    generate,
    reports,
    restoring,
    rollbacks,
    run_folder,
    telemetry,
    train,
)
from began_jax.config import ConfigError
from began_jax.data import order
from began_jax.data.synthetic_faces import FACTORS
from began_jax.metrics import (
    coverage,
    frechet,
    inception_score,
    kernel,
    ms_ssim,
    precision_recall,
)
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
    monkeypatch.setattr(evaluate, "_KERNEL_BLOCK", 20)
    monkeypatch.setattr(evaluate, "_PAIRS", 5)
    monkeypatch.setattr(evaluate, "_RECONSTRUCTED", 5)


def report(workdir, **options):
    options = {"num": NUM, "seeds": [0, 1], "average": True, "network": NETWORK, **options}
    ((path, found),) = evaluate.evaluate(workdir, **options)
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
    assert path.name == "00000006.json"
    assert re.fullmatch("quadrants-70-[0-9a-f]{8}", path.parent.name)
    assert path.parent.parent == workdir / "eval"
    assert found["step"] == 6
    assert found["state_sha256"] == checkpoints.fingerprint(restoring.restore(workdir, None)[1])
    assert found["rollbacks"] == 0
    assert found["images"] == 24
    assert found["num_samples"] == found["num_reference"] == NUM
    assert found["seeds"] == [0, 1]
    assert found["generator"] == "average"
    assert (found["network"], found["network_sha256"]) == ("quadrants", "sha")
    assert len(found["reference"]) == 64
    assert found["m_global_over_steps"] == 6  # of the 2,000 of `checkpoint_every_steps`
    assert found["definitions"]["precision_recall_of_each"] == NUM
    assert found["definitions"]["kernel_blocks"] == 3


def test_every_metric_is_that_of_the_same_samples_and_data_all_at_once(run):
    workdir, images = run
    _, found = report(workdir)
    data = images[order.subset(len(images), NUM)]
    real = features_of(data)
    expected = {}
    for seed in (0, 1):
        samples = samples_of(workdir, seed)
        fake = features_of(samples)
        kd, error = kernel.distance(fake, real, size=20)
        precision, recall = precision_recall.precision_recall(real, fake, k=3)
        values = {
            "fd_quadrants": frechet.distance(moments(fake), moments(real)),
            "kd_quadrants": kd,
            "precision": precision,
            "recall": recall,
            "ms_ssim": ms_ssim.diversity(samples[:10], num_pairs=5, seed=seed),
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
    assert (line["step"], line["images"], line["rolled_back"]) == ("6", "24", "False")
    assert line["state_sha256"] == found["state_sha256"]
    for name, metric in found["metrics"].items():
        assert float(line[name]) == metric["mean"]
        assert line[f"{name}_std"] == ("" if metric["std"] is None else str(metric["std"]))
    assert float(line["ms_ssim_of_data"]) == found["metrics"]["ms_ssim"]["of_data"]


def test_a_metric_that_older_reports_lack_has_a_column(run, monkeypatch):
    workdir, _ = run
    path, found = report(workdir)
    newer = {**found, "step": 7, "metrics": {**found["metrics"], "new": reports.metric([1.0])}}
    reports.write(workdir, newer)
    with (path.parent / "table.csv").open() as file:
        assert [line["new"] for line in csv.DictReader(file)] == ["", "1.0"]
    (path.parent / "00000007.json").unlink()


def test_what_is_no_report_of_a_folder_is_told_and_harms_nothing(run, capsys):
    workdir, _ = run
    path, found = report(workdir)
    foreign = {"list": "[]", "text": "no JSON", "7": "{}", "8": json.dumps(found)}
    for name, text in foreign.items():
        (path.parent / f"{name}.json").write_text(text)
    report(workdir)
    told = capsys.readouterr().err
    for name in foreign:
        assert f"{name}.json: not a report of {path.parent.name}" in told
        (path.parent / f"{name}.json").unlink()
    assert len((path.parent / "table.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"seeds": [0]},
        {"num": 60},
        {"average": False},
        {"network": NETWORK._replace(sha256="other weights")},
        {"_K": 2},
        {"_KERNEL_BLOCK": 30},
    ],
)
def test_reports_that_cannot_be_compared_stand_apart(run, other, monkeypatch):
    workdir, other = run[0], dict(other)
    path, found = report(workdir)
    for name in [name for name in other if name.startswith("_")]:
        monkeypatch.setattr(evaluate, name, other.pop(name))
    other_path, _ = report(workdir, **other)
    assert other_path.parent != path.parent
    assert json.loads(path.read_text()) == found
    for name in ("reference", "regressor"):
        assert reports.folder(workdir, {**found, name: "another"}) != path.parent
    assert "-raw-" in other_path.parent.name or other.get("average", True)


def test_a_report_of_a_course_that_was_rolled_back_is_marked(run):
    workdir, _ = run
    path, _ = report(workdir)
    (workdir / "rollbacks.json").write_text('[{"step": 4, "alarm_step": 6, "alarms": {}}]')
    report(workdir)
    (workdir / "rollbacks.json").unlink()
    with (path.parent / "table.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert line["rolled_back"] == "True"
    assert rollbacks.undone([{"step": 4}, {"step": 9}], 8, 1) is False
    assert rollbacks.undone([{"step": 4}, {"step": 9}], 10, 1) is True
    assert rollbacks.undone([{"step": 4}], 4, 0) is False


def test_g_itself_is_measured_where_it_is_asked_for_and_kept_apart(run):
    workdir, images = run
    average_path, average = report(workdir)
    path, raw = report(workdir, average=False, seeds=[0])
    assert raw["generator"] == "raw"
    assert path.parent.name.startswith("quadrants-raw-70-")
    assert json.loads(average_path.read_text()) == average
    real = features_of(images[order.subset(len(images), NUM)])
    fake = features_of(samples_of(workdir, 0, average=False))
    expected = frechet.distance(moments(fake), moments(real))
    assert raw["metrics"]["fd_quadrants"]["values"] == pytest.approx([expected], rel=1e-4)
    assert (
        raw["metrics"]["fd_quadrants"]["values"][0]
        != average["metrics"]["fd_quadrants"]["values"][0]
    )


def test_tensorboard_has_the_means_in_a_run_of_its_own_whatever_was_evaluated_first(run):
    workdir, _ = run
    path, later = report(workdir)
    place = path.parent
    earlier = {**later, "step": 4, "metrics": {**later["metrics"], "recall": reports.metric([0.5])}}
    reports.write(workdir, earlier)
    (file,) = (workdir / "tensorboard" / f"eval-{place.name}").iterdir()
    events = EventAccumulator(str(file.parent)).Reload()
    assert events.Tags()["scalars"] == [f"eval/{name}" for name in later["metrics"]]
    found = [(event.step, event.value) for event in events.Scalars("eval/recall")]
    assert found == [(4, 0.5), (6, pytest.approx(later["metrics"]["recall"]["mean"]))]
    # What the training wrote is as it was.
    training = EventAccumulator(str(workdir / "tensorboard")).Reload()
    assert [event.step for event in training.Scalars("m_global")] == [2, 4, 6]
    (place / "00000004.json").unlink()


def test_a_tensorboard_that_cannot_be_written_is_told(run, monkeypatch, capsys):
    workdir, _ = run

    def fails(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(telemetry, "TensorBoardWriter", fails)
    path, _ = report(workdir)
    assert path.exists()
    assert "ALARM tensorboard" in capsys.readouterr().err


def test_samples_are_compared_with_the_runs_own_data_alone(run, tmp_path):
    workdir, images = run
    config = json.loads((workdir / "config.json").read_text())
    path = config["data"]["path"]
    np.save(path, images[::-1])
    with pytest.raises(ConfigError, match="images that are not those of"):
        report(workdir)
    np.save(path, images)
    report(workdir)
    noted = (workdir / "data.json").read_text()
    (workdir / "data.json").unlink()
    with pytest.raises(errors.UserError, match=r"data\.json: not there"):
        report(workdir)
    (workdir / "data.json").write_text(noted)


def test_of_fewer_images_precision_and_recall_take_as_many_samples(run):
    workdir, images = run
    _, found = report(workdir, num=150, seeds=[0])
    assert (found["num_samples"], found["num_reference"]) == (150, 90)
    assert found["definitions"]["precision_recall_of_each"] == 90
    real = features_of(images[order.subset(90, 150)])
    config, state = restoring.restore(workdir, None)
    fake = features_of(np.concatenate(list(generate.samples(config, state, 90, seed=0))))
    precision, recall = precision_recall.precision_recall(real, fake, k=3)
    assert found["metrics"]["precision"]["values"] == [precision]
    assert found["metrics"]["recall"]["values"] == [recall]


def test_of_many_samples_the_first_are_compared_one_by_one_and_the_report_says_so(run, monkeypatch):
    workdir, images = run
    monkeypatch.setattr(features, "_MOST_KEPT", 50)
    _, found = report(workdir, seeds=[0])
    assert found["definitions"]["precision_recall_of_each"] == 50
    assert found["definitions"]["kernel_blocks"] == 2
    real = features_of(images[order.subset(len(images), NUM)])
    fake = features_of(samples_of(workdir, 0))
    kd, _ = kernel.distance(fake[:50], real[:50], size=20)
    assert found["metrics"]["kd_quadrants"]["values"] == pytest.approx([kd], rel=1e-4)
    precision, _ = precision_recall.precision_recall(real[:50], fake[:50], k=3)
    assert found["metrics"]["precision"]["values"] == [precision]
    distance = frechet.distance(moments(fake), moments(real))  # of all
    assert found["metrics"]["fd_quadrants"]["values"] == pytest.approx([distance], rel=1e-4)


def test_of_one_block_the_kernel_distance_has_no_error(run, monkeypatch):
    workdir, _ = run
    monkeypatch.setattr(evaluate, "_KERNEL_BLOCK", 70)
    _, found = report(workdir)
    assert "errors" not in found["metrics"]["kd_quadrants"]


def test_a_network_with_classes_has_a_score(run):
    workdir, _ = run

    def apply(params, images):
        found, _ = quadrants(params, images)
        return found, found[:, :5] / 50

    network = FeatureNetwork("classes", "sha", jnp.float32(1.0), apply)
    _, found = report(workdir, network=network)
    metric = found["metrics"]["score_classes"]
    for seed in (0, 1):
        logits = features_of(samples_of(workdir, seed))[:, :5] / 50
        splits = inception_score.add(inception_score.empty(NUM, 5), logits)
        expected = inception_score.score(splits)
        assert (metric["values"][seed], metric["errors"][seed]) == pytest.approx(expected, rel=1e-4)


def test_a_recorded_mean_weighs_records_by_their_steps():
    # The second is of a run that went on from step 9, after a record at 10 was dropped.
    columns = ((8, 8, 1.0), (12, 3, 2.0), (20, 8, 4.0))
    records = [{"step": step, "num_steps": num, "m": value} for step, num, value in columns]
    assert restoring.recorded_mean(records, "m", 20, 100) == ((8 + 3 * 2 + 8 * 4) / 19, 19)
    assert restoring.recorded_mean(records, "m", 20, 9) == ((2 + 8 * 4) / 9, 9)
    # What was recorded after the step is not of it.
    assert restoring.recorded_mean(records, "m", 15, 8) == ((1 + 3 * 2) / 4, 4)
    assert restoring.recorded_mean(records, "m", 7, 6) == (None, 0)
    assert restoring.recorded_mean([], "m", 9, 6) == (None, 0)


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


def fake_report(step, m_global, **means):
    metrics = {name: {"mean": value, "std": None} for name, value in means.items()}
    return {"step": step, "m_global": m_global, "metrics": metrics}


def test_correlations_are_of_ranks():
    made = [
        fake_report(1, 0.2, fd=10.0, recall=0.0, precision=1.0),
        fake_report(2, 0.1, fd=9.0, recall=0.1, precision=1.0),
        fake_report(3, 0.4, fd=1e6, recall=-3.0, precision=1.0),
        fake_report(4, None, fd=0.0, recall=0.0, precision=0.0),
    ]
    assert reports.correlations(made) == {
        "steps": [1, 2, 3],
        "with_m_global": {"fd": pytest.approx(1), "recall": pytest.approx(-1)},
        "with_step": {
            "m_global": pytest.approx(0.5),
            "fd": pytest.approx(0.5),
            "recall": pytest.approx(-0.5),
        },
    }
    older = [{**one, "metrics": {"fd": one["metrics"]["fd"]}} for one in made[:1]]
    assert [*reports.correlations(older + made[1:])["with_m_global"]] == ["fd"]
    none = {"with_m_global": {}, "with_step": {}}
    assert reports.correlations(made[1:]) == {"steps": [2, 3], **none}
    assert reports.correlations([]) == {"steps": [], **none}
    assert reports.correlations([made[0]] * 3) == {"steps": [1] * 3, **none}


def test_the_correlations_over_the_checkpoints_are_written(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (40, R, R, 3), np.uint8))
    config = make_config(
        data__source="array",
        data__path=str(tmp_path / "x.npy"),
        train__checkpoint_every_steps=2,
    )
    train.train(config, tmp_path / "run")
    options = {"num": 30, "seeds": [0], "average": True, "network": NETWORK}
    found = list(evaluate.evaluate(tmp_path / "run", every_checkpoint=True, **options))
    place = found[0][0].parent
    written = json.loads((place / "correlations.json").read_text())
    ranks = reports.correlations([report for _, report in found])
    assert "fd_quadrants" in ranks["with_m_global"]
    assert {name: written[name] for name in ranks} == ranks
    assert (written["steps"], written["seeds"], written["network_sha256"]) == (
        [2, 4, 6],
        [0],
        "sha",
    )
    table = (place / "table.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table] == ["step", "2", "4", "6"]

    # One report anew, and they are still over all; but for one that was rolled back.
    list(evaluate.evaluate(tmp_path / "run", step=4, **options))
    assert json.loads((place / "correlations.json").read_text()) == written
    (tmp_path / "run" / "rollbacks.json").write_text('[{"step": 4, "alarm_step": 6, "alarms": {}}]')
    list(evaluate.evaluate(tmp_path / "run", step=4, **options))
    assert json.loads((place / "correlations.json").read_text())["steps"] == [2, 4]


def test_a_checkpoint_that_cannot_be_read_is_left_out_of_all_and_told(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (40, R, R, 3), np.uint8))
    config = make_config(
        data__source="array",
        data__path=str(tmp_path / "x.npy"),
        train__checkpoint_every_steps=2,
    )
    workdir = tmp_path / "run"
    train.train(config, workdir)
    options = {"num": 30, "seeds": [0], "average": True, "network": NETWORK}
    for step, left in ((4, [2, 6]), (2, [6])):
        shutil.rmtree(workdir / "checkpoints" / str(step) / "state")
        found = list(evaluate.evaluate(workdir, every_checkpoint=True, **options))
        assert [report["step"] for _, report in found] == left
        assert f"checkpoint {step} cannot be read" in capsys.readouterr().err
    shutil.rmtree(workdir / "checkpoints" / "6" / "state")
    with pytest.raises(errors.UserError, match="no readable checkpoint"):
        list(evaluate.evaluate(workdir, every_checkpoint=True, **options))


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
    # The data's is that of one half by the other, the samples' of as many: 16 of 32 images.
    assert found["definitions"]["coverage_of_each"] == 16
    config, state = restoring.restore(tmp_path / "run", None)
    regressor = coverage.regressor(R, 3)
    images = restoring.load_data(tmp_path / "run", config)[order.subset(32, 32)]
    read = coverage.read(regressor, images)
    samples = np.concatenate(list(generate.samples(config, state, 16, seed=1)))
    covered = coverage.coverage(coverage.read(regressor, samples), read[:16])
    assert found["metrics"]["coverage_yaw"]["values"][1] == pytest.approx(covered["yaw"])
    of_half = coverage.coverage(read[16:], read[:16])
    assert found["metrics"]["coverage_yaw"]["of_data"] == pytest.approx(of_half["yaw"])
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

    (written,) = (tmp_path / "often" / "eval").glob("random_conv-1000-*/0*.json")
    found = json.loads(written.read_text())
    assert (found["step"], found["num_samples"], found["seeds"]) == (4, 1000, [0])
    assert found["m_global"] == pytest.approx(restoring.records(tmp_path / "often")[1]["m_global"])
    _, state = restoring.restore(tmp_path / "often", 4)
    assert found["state_sha256"] == checkpoints.fingerprint(state)
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


def test_a_folder_that_cannot_be_written_is_told_before_the_long_work(run, monkeypatch):
    workdir, _ = run

    def fails(**_):
        raise OSError("Read-only file system")

    monkeypatch.setattr(run_folder.tempfile, "TemporaryFile", fails)
    monkeypatch.setattr(evaluate, "prepare", None)
    with pytest.raises(OSError, match="Read-only"):
        report(workdir)


def test_fewer_images_than_features_are_told(run, capsys):
    workdir, images = run
    report(workdir)
    assert "Fréchet" not in capsys.readouterr().err

    def apply(params, images):
        return jnp.zeros((len(images), NUM)), None

    network = FeatureNetwork("wide", "sha", jnp.float32(1.0), apply)
    evaluate.prepare(restoring.load_config(workdir), images, network, num=NUM, seeds=[0])
    assert f"{NUM} images of {NUM} features each" in capsys.readouterr().err


def test_too_few_samples_and_too_few_images_are_told(run, monkeypatch):
    workdir, _ = run
    with pytest.raises(errors.UserError, match="--num=19: 20 samples are needed"):
        report(workdir, num=19)
    monkeypatch.setattr(evaluate, "_KERNEL_BLOCK", 91)
    with pytest.raises(ConfigError, match=r"config\.data: 90 images; to evaluate, 91"):
        report(workdir, num=91)


def test_training_that_cannot_evaluate_ends_before_it_makes_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "_KERNEL_BLOCK", 1000)
    evaluating = {"eval__every_steps": 4, "train__checkpoint_every_steps": 2}
    with pytest.raises(ConfigError, match="32 images; to evaluate, 1000"):
        train.train(make_config(**evaluating), tmp_path / "run")
    with pytest.raises(errors.UserError, match="--weights=/nowhere"):
        train.train(
            make_config(eval__network="efficientnet_lite0", eval__weights="/nowhere", **evaluating),
            tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()
