"""Studies: their files, a tiny one from command to page, what is left out and what is refused."""

import json
import re
import shlex
import sys

import numpy as np
import pytest
from PIL import Image

from began_jax import config as config_lib
from launch import sheets, slurm_array, studies, study, study_results, sweep
from tests.conftest import ROOT
from tests.test_report import make_run

STUDIES = sorted(
    path for path in (ROOT / "configs" / "studies").glob("*.py") if path.stem not in studies.BUDGETS
)
TINY = """
from launch.studies import Study


def get_study(base):
    return Study(
        question="Is it drawn?",
        points={"low": "config.began.gamma=0.3", "high": "config.began.gamma=0.9"},
        OPTIONS
    )
"""
# Trains as main.py does. An evaluation is not computed: the Fréchet distance is ten times gamma.
MAIN = f"""
import json, pathlib, re, runpy, sys
given = dict(re.findall("--(mode|workdir|out)=(.*)", "\\n".join(sys.argv[1:])))
if "mode" not in given:
    sys.argv[0] = {str(ROOT / "main.py")!r}
    sys.path[0] = {str(ROOT)!r}
    sys.exit(runpy.run_path(sys.argv[0], run_name="__main__"))
run = pathlib.Path(given["workdir"])
if given["mode"] != "evaluate":
    pathlib.Path(given["out"]).parent.mkdir(exist_ok=True)
    pathlib.Path(given["out"]).write_bytes(next(run.glob("samples/*.png")).read_bytes())
    sys.exit()
sys.path.insert(0, {str(ROOT)!r})
from tests.test_study import write_report
config = json.loads((run / "config.json").read_text())
steps = sorted(int(path.name) for path in run.glob("checkpoints/[0-9]*"))
for step in steps if "--every_checkpoint" in sys.argv else steps[-1:]:
    write_report(run, step, fd_random_conv=10 * config["began"]["gamma"])
"""
RUN = [
    "--config.model.n=4",
    "--config.model.conv=phases",
    "--config.data.num_images=64",
    "--config.train.num_samples=4",
    "--config.train.log_every_steps=2",
    "--config.train.checkpoint_every_steps=2",
    "--config.train.keep_checkpoint_every_steps=2",
    "--config.train.num_steps=4",
]
# How ml_collections loads a config file.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def write_report(run, step, reference="r", **metrics):
    made = {
        name: {"mean": value, "std": None, "values": [value]} for name, value in metrics.items()
    }
    made["ms_ssim"] = {"mean": 0.5, "std": None, "values": [0.5], "of_data": 0.25}
    told = {"step": step, "images": 8 * step, "reference": reference, "regressor": None}
    told["m_global"] = 1 / step
    asked = {"network": "random_conv", "num_samples": 5000, "num_reference": 5000, "seeds": [0]}
    folder = run / "eval" / "random_conv-5000-0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{step:08d}.json").write_text(json.dumps({**told, **asked, "metrics": made}))


def write_study(folder, options="", num_seeds=2):
    """A study's file and its budget's; what study.main is given."""
    folder.mkdir(exist_ok=True)
    (folder / "small.py").write_text((ROOT / "configs" / "studies" / "small.py").read_text())
    file = folder / "tiny.py"
    file.write_text(TINY.replace("OPTIONS", f"num_seeds={num_seeds}, {options}"))
    return [str(file), f"--workdir={folder / 'runs'}"]


def write_runs(folder, options="", fixed=(), **others):
    """A study's finished runs, without a training; the study's arguments."""
    given = write_study(folder, options)
    _, runs = studies.load(given[0], "small", list(fixed))
    for run in (run for of_point in runs.values() for run in of_point):
        config = json.loads(config_lib.to_json(run.config))
        path = make_run(folder / "runs" / run.name, config=config, **others)
        last = run.config.train.num_steps
        for step in (last // 2, last):
            (path / "checkpoints" / str(step)).mkdir(parents=True)
            (path / "checkpoints" / str(step) / "_CHECKPOINT_METADATA").touch()
            fd = run.config.began.gamma + run.config.seed + (0 if step == last else 5)
            write_report(path, step, fd_random_conv=fd)
    told = {"study": given[0], "budget": "small", "fixed": list(fixed), "command": "the command"}
    studies.save_settings(folder / "runs", told)
    return given


def draw(given, out):
    status = study.main([*given, "--draw", f"--out={out}"])
    return status, json.loads((out / "results.json").read_text()) if status == 0 else None


def table(out):
    """The rows of results.md by their first cell."""
    lines = [line for line in (out / "results.md").read_text().splitlines() if line[:1] == "|"]
    header, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


def test_the_studies_are_there():
    assert {path.stem for path in STUDIES} == {
        *("gamma", "convergence", "unbalanced", "interpolation", "objectives", "latent_size"),
        *("noise", "architecture", "skips", "peers"),
    }


@pytest.mark.parametrize("budget", studies.BUDGETS)
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_point_is_a_run_of_its_own(path, budget):
    file = str(path.relative_to(ROOT))
    found, runs = studies.load(file, budget, [])
    every = [run for of_point in runs.values() for run in of_point]
    assert len({run.config for run in every}) == len({run.name for run in every}) == len(every)
    assert all(len(of_point) == found.num_seeds for of_point in runs.values())
    assert found.question.endswith("?")
    assert {run.config.name for run in every} == {budget}
    for field in filter(None, (found.axis, found.line)):
        assert len({config_lib.flatten(run.config)[field] for run in every}) > 1
    document = (ROOT / "docs" / "studies.md").read_text()
    cell = re.search(rf"^\| `{path.stem}` \| .* \| (.*) \| [^|]* \|$", document, re.MULTILINE)[1]
    small, _, full = cell.partition(", full ")
    assert len(every) == int(small if budget == "small" else full or small)


@pytest.mark.slow
def test_from_the_command_to_the_page(tmp_path, monkeypatch, capsys):
    (tmp_path / "main.py").write_text(MAIN)
    monkeypatch.setattr(sweep, "_MAIN", tmp_path / "main.py")
    options = 'pictures={"two latents": "--mode=sample --num=4"},'
    given = write_study(tmp_path, options, num_seeds=1)
    workdir = tmp_path / "runs"

    assert study.main([*given, *RUN, "--run=local", "--jobs=2"]) == 0, capsys.readouterr().err
    err = capsys.readouterr().err.splitlines()
    assert "0 finished before, 2 done, 0 failed" in err
    assert err[-1] == "0 finished before, 4 done, 0 failed"  # evaluations and pictures
    names = ["gamma=0.3,seed=0", "gamma=0.9,seed=0"]
    logs = [(workdir / name / "log.txt").read_bytes() for name in names]

    (workdir / names[1] / "eval" / "random_conv-5000-0" / "00000004.json").unlink()
    assert study.main([*given, *RUN, "--run=local"]) == 0
    err = capsys.readouterr().err.splitlines()
    assert err[:2] == [f"{name}: is finished already" for name in names]
    assert err[3] == f"[1/1] {names[1]}: evaluation: started"
    assert err[-1] == "3 finished before, 1 done, 0 failed"
    assert [(workdir / name / "log.txt").read_bytes() for name in names] == logs

    status, results = draw(given, tmp_path / "out")
    assert status == 0
    assert [point["label"] for point in results["points"]] == ["low", "high"]
    assert results["points"][1]["metrics"]["fd_random_conv"]["values"] == [9.0]
    assert results["commits"] and results["missing"] == []
    assert results["command"].startswith(f"python launch/study.py {given[0]} ")
    assert table(tmp_path / "out")["high"]["fd_random_conv ↓"] == "9"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("figure.png", "samples.png", "pictures.png", "results.json", "results.md")
    }
    for path in (tmp_path / "out").glob("*.png"):
        with Image.open(path) as image:
            image.load()
        assert path.stat().st_size <= sheets.LARGEST
        if path.stem == "samples":  # two grids of 2 × 2 images, each of 32 pixels
            assert image.size == (64 + 8 + 64, 16 + 64)
        assert f"]({path.name})" in (tmp_path / "out" / "results.md").read_text()


def test_means_and_deviations_are_over_seeds(tmp_path):
    status, results = draw(write_runs(tmp_path), tmp_path / "out")
    fd = results["points"][0]["metrics"]["fd_random_conv"]
    assert (status, fd["values"]) == (0, pytest.approx([0.3, 1.3]))
    assert (fd["mean"], fd["std"]) == pytest.approx((0.8, 0.5**0.5))
    assert table(tmp_path / "out")["high"]["fd_random_conv ↓"] == "1.40 ± 0.71"
    assert results["of_data"] == {"ms_ssim": 0.25}


def test_what_no_study_wrote_is_not_replaced(tmp_path, capsys):
    given, out = write_runs(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "figure.png").write_text("the user's")
    assert draw(given, out)[0] == 2
    assert capsys.readouterr().err == (
        f"--out={out}: holds figure.png, which this command did not write. Choose another --out.\n"
    )
    assert (out / "figure.png").read_text() == "the user's"
    (out / "figure.png").unlink()
    for _ in range(2):
        assert draw(given, out)[0] == 0
    capsys.readouterr()
    (tmp_path / "runs" / "study.json").write_text("[]")
    assert study.main([*given, "--run=local"]) == 2
    assert capsys.readouterr().err == (
        f"--workdir={tmp_path / 'runs'}: holds study.json, which no study wrote. "
        "Choose another --workdir.\n"
    )
    assert (tmp_path / "runs" / "study.json").read_text() == "[]"


def test_without_run_it_prints_the_commands_and_writes_nothing(tmp_path, capsys):
    assert study.main([*write_study(tmp_path), *RUN]) == 0
    found = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [words[-1].rpartition("/")[2] for words in found] == [
        *("gamma=0.3,seed=0", "gamma=0.3,seed=1", "gamma=0.9,seed=0", "gamma=0.9,seed=1")
    ]
    assert not (tmp_path / "runs").exists()


def test_a_run_that_is_not_finished_is_left_out_and_told(tmp_path, capsys):
    given = write_runs(tmp_path)
    (tmp_path / "runs" / "gamma=0.3,seed=1" / "checkpoints" / "6000").rename(tmp_path / "moved")
    status, results = draw(given, tmp_path / "out")
    assert (status, results["missing"]) == (0, ["gamma=0.3,seed=1"])
    assert [table(tmp_path / "out")[label]["n"] for label in ("low", "high")] == ["1", "2"]
    assert "gamma=0.3,seed=1: left out, it is not finished" in capsys.readouterr().err
    assert (tmp_path / "out" / "figure.png").exists()


def test_a_single_point_needs_no_figure(tmp_path):
    given = write_runs(tmp_path)
    for seed in (0, 1):
        (tmp_path / "runs" / f"gamma=0.3,seed={seed}" / "config.json").unlink()
    assert draw(given, tmp_path / "out")[0] == 0
    assert not (tmp_path / "out" / "figure.png").exists()
    assert "figure.png" not in (tmp_path / "out" / "results.md").read_text()


def undone(tmp_path):
    """A study of four runs: one is not finished, one is not evaluated."""
    given = write_runs(tmp_path)
    (tmp_path / "runs" / "gamma=0.3,seed=0" / "checkpoints" / "6000").rename(tmp_path / "moved")
    for report in (tmp_path / "runs" / "gamma=0.9,seed=1" / "eval").glob("*/*6000.json"):
        report.unlink()
    return given


def test_others_are_evaluated_where_a_run_fails(tmp_path, monkeypatch, capsys):
    given = undone(tmp_path)
    (tmp_path / "main.py").write_text("import sys; sys.exit('--mode=evaluate' not in sys.argv)")
    monkeypatch.setattr(sweep, "_MAIN", tmp_path / "main.py")
    assert study.main([*given, "--run=local"]) == 1
    err = capsys.readouterr().err
    assert "failed: gamma=0.3,seed=0: exit status 1" in err
    assert "[1/1] gamma=0.9,seed=1: evaluation: done" in err


def test_on_slurm_what_is_finished_is_evaluated(tmp_path, monkeypatch, capsys):
    given, submitted = undone(tmp_path), []
    monkeypatch.setattr(slurm_array, "submit", lambda jobs, *_: submitted.append(jobs))
    assert study.main([*given, "--run=slurm", "--slurm_time=60"]) == 0
    assert [[job.name for job in jobs] for jobs in submitted] == [
        *(["gamma=0.3,seed=0"], ["gamma=0.9,seed=1: evaluation"])
    ]
    assert "unfinished: 1; when they are done, the same command" in capsys.readouterr().err


def test_over_an_axis_points_are_told_by_its_value(tmp_path):
    given = write_runs(tmp_path, 'axis="began.gamma",')
    assert draw(given, tmp_path / "out")[0] == 0
    rows = table(tmp_path / "out")
    assert [rows[gamma]["gamma"] for gamma in ("0.3", "0.9")] == ["0.3", "0.9"]
    assert rows["0.3"]["ms_ssim (data 0.25)"] == "0.5 ± 0"


def test_every_checkpoint_is_evaluated_and_drawn(tmp_path, monkeypatch, capsys):
    given = write_runs(tmp_path, "every_checkpoint=True,")
    report = (
        tmp_path / "runs" / "gamma=0.3,seed=0" / "eval" / "random_conv-5000-0" / "00003000.json"
    )
    text = report.read_text()
    report.write_text(text.replace("5000", "4000"))  # of another number of samples
    (tmp_path / "main.py").write_text("import sys; print(sys.argv)")
    monkeypatch.setattr(sweep, "_MAIN", tmp_path / "main.py")
    assert study.main([*given, "--run=local"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "3 finished before, 1 done, 0 failed"
    log = (tmp_path / "runs" / "gamma=0.3,seed=0" / "log.txt").read_text()
    assert "'--mode=evaluate', '--every_checkpoint'" in log
    report.write_text(text)
    status, results = draw(given, tmp_path / "out")
    steps = [checkpoint["step"] for checkpoint in results["points"][1]["checkpoints"]]
    assert (status, steps) == (0, [3000, 6000])
    m_globals = [one["metrics"]["m_global"]["mean"] for one in results["points"][1]["checkpoints"]]
    assert m_globals == [1 / 3000, 1 / 6000]
    assert [one["steps"] for one in results["points"][1]["correlations"]] == [[3000, 6000]] * 2
    found, runs = studies.load(given[0], "small", [])
    groups, names = study_results.over_images(study_results.read(found, runs, tmp_path / "runs"))
    drawn = [one["fd_random_conv"] for one in groups[0].runs[1].records if "fd_random_conv" in one]
    assert drawn == [6.3, 1.3]
    assert list(names) == [
        "m_global",
        "loss_real",
        "k",
        "ms_ssim",
        "sample_spread",
        "fd_random_conv",
    ]


def test_pictures_of_others_data_are_not_drawn(tmp_path):
    """A CelebA image, say, may not be given away; what G makes may."""
    modes = {"between": "--mode=interpolate --between=mirror", "samples": "--mode=sample"}
    fixed = ["--config.data.source=folder", "--config.data.path=photos"]
    drawn = []
    for name, given in (("others", fixed), ("own", [])):
        folder = tmp_path / name
        write_runs(folder, f"pictures={modes!r},", given)
        found, runs = studies.load(str(folder / "tiny.py"), "small", given)
        for run in (of_point[0] for of_point in runs.values()):
            for text in modes.values():
                out = studies.picture(folder / "runs" / run.name, run, text)
                out.parent.mkdir(exist_ok=True)
                Image.new("RGB", (8, 8)).save(out)
        png = study._pictures(found, runs, folder / "runs", sheets)
        (folder / "drawn.png").write_bytes(png)
        with Image.open(folder / "drawn.png") as image:
            drawn.append(image.height)
    assert drawn[1] > 1.9 * drawn[0]  # four pictures, and two


def test_sheets_stay_small():
    rng = np.random.default_rng(0)
    grid = Image.fromarray(rng.integers(0, 256, (512, 512, 3), np.uint8))
    for png in (
        sheets.of_grids({str(i): grid for i in range(4)}, 8, 64),
        sheets.of_pictures({str(i): grid for i in range(4)}),
    ):
        assert 10_000 < len(png) <= sheets.LARGEST


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("none.py --workdir=w", "none.py: no such file"),
        ("{folder}/small.py --workdir=w", "small.py: no study: module 'small' has no attribute"),
        ("{folder}/tiny.py", "the following arguments are required: --workdir; see --help"),
        ("{folder}/tiny.py --workdir=w --budget=full", "full.py: no such file"),
        ("{folder}/tiny.py --workdir=w --budget=huge", "invalid choice: 'huge'"),
        ("{folder}/tiny.py --workdir=w --config.model.nn=4", "config.model.nn: no such field"),
        ("{folder}/tiny.py --workdir=w --config.began.gamma=1", "config.began.gamma: it is set"),
        ("{folder}/tiny.py --workdir=w --draw", "--draw and --out=<folder>: each needs the other"),
        ("{folder}/tiny.py --workdir=w --out=o", "--draw and --out=<folder>: each needs the other"),
        ("{folder}/tiny.py --workdir=w --draw --out=o --run=local", "--draw: with --workdir and"),
        ("{folder}/tiny.py --workdir=w --draw --out=o", "study.json: no study has been run there"),
        ("{folder}/tiny.py --workdir=w --jobs=2", "--jobs: it needs --run=local or --run=slurm"),
    ],
)
def test_a_mistake_ends_in_one_line(arguments, line, tmp_path, monkeypatch, capsys):
    write_study(tmp_path / "studies")
    folder = tmp_path / "empty"
    folder.mkdir()
    given = arguments.format(folder=tmp_path / "studies").replace("=w", f"={folder}")
    assert study.main(shlex.split(given)) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert line in err
    assert not list(folder.iterdir())


def test_what_cannot_be_drawn_is_one_line(tmp_path, monkeypatch, capsys):
    given = write_runs(tmp_path)
    other = tmp_path / "other.py"
    other.write_text((tmp_path / "tiny.py").read_text())
    assert draw([str(other), given[1]], tmp_path / "out")[0] == 2
    assert "the study there is" in capsys.readouterr().err
    run = tmp_path / "runs" / "gamma=0.9,seed=1"
    write_report(run, 6000, reference="of other images")
    assert draw(given, tmp_path / "out")[0] == 2
    assert "compare with other images" in capsys.readouterr().err
    for checkpoint in (tmp_path / "runs").glob("*/checkpoints/6000/*"):
        checkpoint.unlink()
    assert draw(given, tmp_path / "out")[0] == 2
    assert "none of the study's runs is finished" in capsys.readouterr().err
    monkeypatch.delitem(sys.modules, "launch.charts", raising=False)
    monkeypatch.delattr("launch.charts", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert draw(given, tmp_path / "out")[0] == 2
    assert capsys.readouterr().err == (
        "launch/study.py --draw needs matplotlib: pip install -r requirements-launch.txt\n"
    )
    assert not (tmp_path / "out").exists()
