"""Reports of runs that are written by hand, so that every number is known."""

import base64
import csv
import io
import json
import os
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from began_jax import config as config_lib
from began_jax import reports
from launch import charts, report, run_folders, tables
from tests.conftest import make_config


def record(step, m_global=0.1, **others):
    values = {"loss_real": 0.08, "k": 0.2, "sample_spread": 0.5, "images_per_second": 100.0}
    return {"step": step, "images": 4 * step, "m_global": m_global, **values, **others}


def make_run(path, records=None, evaluations=None, grid=True, config=None, **overrides):
    path.mkdir(parents=True)
    made = config or json.loads(config_lib.to_json(make_config(**overrides)))
    (path / "config.json").write_text(json.dumps(made))
    lines = [record(2, 0.3), record(4, 0.2)] if records is None else records
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    start = {"devices": ["gpu:X", "gpu:X"], "commit": "0123456789abcdef"}
    (path / "provenance.json").write_text(json.dumps([start]))
    for name, metrics in (evaluations or {}).items():
        (path / "eval" / name).parent.mkdir(parents=True, exist_ok=True)
        found = {key: reports.metric([value]) for key, value in metrics.items()}
        told = {"step": int(re.sub(r"\D", "", name.rpartition("/")[2]) or 0), "metrics": found}
        (path / "eval" / name).write_text(json.dumps(told))
    if grid:
        (path / "samples").mkdir()
        for images in (8, 16):
            Image.fromarray(np.full((16, 16, 3), images, np.uint8)).save(
                path / "samples" / f"{images:09d}.png"
            )
    return path


class Page(HTMLParser):
    """A page's elements, attributes, tables (rows of cells) and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.tables, self.text = [], [], [], ""
        self.in_cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend(attrs)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.tables[-1][-1][-1] += data

    def table(self, *columns):
        """The first with these columns, each line as a dictionary."""
        lines = next(lines for lines in self.tables if {*columns} <= {*lines[0]})
        return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def made(tmp_path, *paths):
    """The page and the CSV's lines of a report on the paths."""
    out = tmp_path / "out"
    assert report.main([*map(str, paths), f"--out={out}"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "runs.csv"]
    text = (out / "runs.csv").read_text(encoding="utf-8")
    page = Page((out / "report.html").read_text(encoding="utf-8"))
    return page, list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def no_charts(monkeypatch):
    """They take most of a report's time."""
    monkeypatch.setattr(charts, "curves", lambda *_: None)
    monkeypatch.setattr(charts, "against", lambda *_: None)


def test_means_and_standard_deviations_are_over_seeds(tmp_path, no_charts):
    for seed, final in enumerate((0.1, 0.2, 0.4)):
        config = {"seed": seed, "name": f"run{seed}"}
        make_run(tmp_path / "s" / f"a{seed}", [record(2, 0.5), record(4, final)], **config)
    make_run(tmp_path / "s" / "b", [record(4, 0.7)], began__gamma=0.3)
    page, _ = made(tmp_path, tmp_path / "s")
    alone, three = page.table("n")
    # mean 0.7 / 3 = 0.2333; deviations -0.1333, -0.0333, 0.1667: squares 0.04667, over 2, root
    assert (three["gamma"], three["n"], three["m_global"]) == ("0.5", "3", "0.23 ± 0.15")
    assert (alone["gamma"], alone["n"], alone["m_global"]) == ("0.3", "1", "0.7")
    assert tables.mean_and_spread([0.1, 0.2, 0.4]) == pytest.approx((0.7 / 3, 0.1527525))


def test_a_group_s_mean_says_how_many_have_the_value(tmp_path, no_charts):
    evaluation = {"e-1000/00000004.json": {"recall": 0.25}}
    make_run(tmp_path / "s" / "0", seed=0, evaluations=evaluation)
    make_run(tmp_path / "s" / "1", seed=1)
    page, _ = made(tmp_path, tmp_path / "s")
    (group,) = page.table("n")
    assert group["recall"] == "0.25 (of 1)"
    assert group["loss_real"] == "0.08 ± 0"


def test_a_run_s_line_tells_what_its_folder_does(tmp_path, no_charts):
    records = [
        record(2, 0.3, images_per_second=10.0),
        record(4, 0.1, alarms=["collapse"], images_per_second=90.0),
        {"step": 5, "images": 20, "alarms": ["collapse", "not_finite"]},
        record(6, 0.2, loss_real=0.07, k=0.25, sample_spread=0.625, images_per_second=80.0),
    ]
    evaluations = {
        "random_conv-1000/00000010.json": {
            "fd_random_conv": 3.5,
            "coverage": 0.75,
            "coverage_x": 0.5,
        },
        "random_conv-1000/00000009.json": {"fd_random_conv": 9.0},
        "random_conv-1000/correlations.json": {},
    }
    make_run(tmp_path / "s" / "a", records, evaluations, train__num_steps=12, began__gamma=0.25)
    rolled_back = [{"step": 2, "alarm_step": 6, "alarms": {"collapse": "it was"}}]
    (tmp_path / "s" / "a" / "rollbacks.json").write_text(json.dumps(rolled_back))
    make_run(tmp_path / "s" / "b", [record(6)], train__num_steps=12)
    page, lines = made(tmp_path, tmp_path / "s")
    assert page.table("run")[0] == {
        "run": "a",
        "gamma": "0.25",
        "m_global": "0.2",
        "best_m_global": "0.1",
        "loss_real": "0.07",
        "k": "0.25",
        "sample_spread": "0.625",
        "images_per_second": "80",
        "steps": "6/12",
        "eval_step": "10",
        "fd_random_conv": "3.5",
        "coverage": "0.75",
        "alarms": "collapse×3, not_finite×1",
    }
    assert page.table("run")[1]["fd_random_conv"] == "–"
    assert lines[0]["fd_random_conv"] == "3.5"
    assert lines[0]["alarms"] == "collapse not_finite"
    assert (lines[0]["devices"], lines[0]["commit"]) == ("2 × gpu:X", "0123456789")


def test_the_csv_has_numbers_in_full(tmp_path, no_charts):
    make_run(tmp_path / "s" / "a", [record(2, 1 / 3)], optim__learning_rate=1 / 3000)
    make_run(tmp_path / "s" / "b")
    _, lines = made(tmp_path, tmp_path / "s")
    assert float(lines[1]["m_global"]) == 1 / 3
    assert float(lines[1]["config.optim.learning_rate"]) == 1 / 3000


def test_evaluations_of_two_kinds_are_kept_apart(tmp_path, no_charts):
    make_run(tmp_path / "s" / "a", evaluations={"x-1000/00000004.json": {"recall": 0.5}})
    make_run(tmp_path / "s" / "b", evaluations={"y-1000/00000004.json": {"recall": 0.25}}, seed=1)
    page, _ = made(tmp_path, tmp_path / "s")
    assert [line["x-1000/recall"] for line in page.table("run")] == ["0.5", "–"]
    assert [line["y-1000/recall"] for line in page.table("run")] == ["–", "0.25"]


def test_runs_are_found_at_any_depth_and_once(tmp_path):
    top = tmp_path / "top"
    make_run(top / "x" / "a")
    make_run(top / "x" / "deep" / "er" / "a", seed=1)
    make_run(top / "y", seed=2)
    make_run(top / "y" / "inner", seed=3)  # below a run: part of it
    for paths in ([top], [top, top / "x"], [top / "x", top / "y"], [tmp_path]):
        runs, problems = run_folders.find(paths)
        assert {run.name for run in runs} == {"x/a", "x/deep/er/a", "y"}
        assert problems == []
    os.symlink(top, top / "x" / "round")
    assert len(run_folders.find([top / "x", top])[0]) == 3
    assert [run.name for run in run_folders.find([top / "y"])[0]] == ["y"]


def test_what_is_broken_is_told_and_the_rest_is_shown(tmp_path, capsys):
    folder = tmp_path / "s"
    make_run(folder / "good")
    torn = make_run(folder / "torn", seed=1)
    (torn / "metrics.jsonl").write_text(json.dumps(record(2, 0.25)) + '\n{"step": 4, "imag')
    bad_line = make_run(folder / "bad_line", seed=2)
    text = "\n".join([json.dumps(record(2)), "{", "3", json.dumps(record(8, 0.75)), ""])
    (bad_line / "metrics.jsonl").write_text(text)
    (make_run(folder / "unmeasured", seed=3) / "metrics.jsonl").unlink()
    (make_run(folder / "unreadable", seed=4) / "config.json").write_text('{"name": ')
    (make_run(folder / "other", seed=5) / "config.json").write_text("[]")
    cut = make_run(folder / "cut", seed=6)
    png = (cut / "samples" / "000000016.png").read_bytes()
    (cut / "samples" / "000000016.png").write_bytes(png[:40])
    (make_run(folder / "origin", seed=7) / "provenance.json").write_text("{")
    (make_run(folder / "rollbacks", seed=9) / "rollbacks.json").write_text("[1]")
    evaluation = {"e-1/00000001.json": {"recall": 1.0}}
    evaluated = make_run(folder / "evaluated", seed=8, evaluations=evaluation)
    (evaluated / "eval" / "e-1" / "00000001.json").write_text("{}")

    page, lines = made(tmp_path, folder)
    told = {line["run"]: line["reason"] for line in page.table("reason")}
    assert set(told) == {path.name for path in folder.iterdir()} - {"good"}
    assert told["torn"] == "metrics.jsonl: the last line is torn"
    assert told["bad_line"] == "metrics.jsonl: cannot be read in line 2, 3"
    assert told["unmeasured"] == "metrics.jsonl: No such file or directory"
    assert "cannot be read" in told["unreadable"]
    assert "no config is in it" in told["other"]
    assert told["cut"] == "samples/000000016.png: cannot be read"
    assert told["evaluated"] == "eval/e-1/00000001.json: cannot be read"
    assert str(tmp_path) not in page.text
    shown = {line["run"]: line["m_global"] for line in page.table("run", "m_global")}
    assert set(shown) == {path.name for path in folder.iterdir()} - {"unreadable", "other"}
    assert (shown["torn"], shown["bad_line"], shown["unmeasured"]) == ("0.25", "0.75", "–")
    assert len(lines) == len(shown)
    assert len(capsys.readouterr().err.splitlines()) == len(told)


def test_lines_that_are_none_of_a_run_s_are_left_out_whatever_they_hold(tmp_path):
    run = make_run(tmp_path / "s" / "run")
    foreign = [
        '{"step": "4", "images": "8", "m_global": 0.1}',
        '{"step": true, "images": 8, "m_global": 0.1}',
        '{"step": 4, "images": 8' + "0" * 400 + ', "m_global": 0.1}',
        "[" * 100_000,
    ]
    good = [json.dumps(record(2, 0.3)), json.dumps(record(4, 0.2, k=10**400))]
    (run / "metrics.jsonl").write_text("\n".join([*foreign, *good, ""]))
    page, lines = made(tmp_path, tmp_path / "s")
    (told,) = page.table("reason")
    assert told["reason"] == "metrics.jsonl: cannot be read in line 1, 2, 3, 4"
    assert lines[0]["m_global"] == "0.2"
    assert "k" not in lines[0]  # the last record's is no number that can be shown


def test_no_cell_of_the_csv_is_a_formula(tmp_path):
    make_run(tmp_path / "s" / "=cmd|calc", config={"name": "+1", "seed": -1})
    make_run(tmp_path / "s" / "b", config={"name": "@SUM(1)", "seed": -2})
    _, lines = made(tmp_path, tmp_path / "s")
    assert {line["run"] for line in lines} == {"'=cmd|calc", "b"}
    assert {line["config.name"] for line in lines} == {"'+1", "'@SUM(1)"}
    assert {line["config.seed"] for line in lines} == {"-1", "-2"}  # numbers stay numbers


def test_a_folder_that_may_not_be_read_is_told_and_the_rest_is_shown(tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "s" / "run")
    (tmp_path / "s" / "closed").mkdir()
    iterdir = run_folders.Path.iterdir

    def refused(path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(run_folders.Path, "iterdir", refused)
    assert [run.name for run in run_folders.find([tmp_path / "s"])[0]] == ["run"]
    assert capsys.readouterr().err == f"{tmp_path / 's' / 'closed'}: Permission denied; left out\n"


def test_with_broken_runs_alone_there_is_a_page(tmp_path):
    (make_run(tmp_path / "s") / "config.json").write_text("{")
    page, lines = made(tmp_path, tmp_path / "s")
    assert "cannot be read" in page.text
    assert lines == []


def test_an_empty_record_and_odd_values_do_no_harm(tmp_path):
    make_run(tmp_path / "s" / "a", [record(2, float("nan"), k=float("inf"))], grid=False)
    make_run(tmp_path / "s" / "b", [record(2, "text", k=None)], grid=False, seed=1)
    config = {"name": [1, {"a": None}], "seed": None, "began": {"gamma": "high"}}
    make_run(tmp_path / "s" / "c", [], grid=False, config=config)
    page, lines = made(tmp_path, tmp_path / "s")
    assert len(lines) == 3
    assert page.tags.count("img") > 0


EVIL = "<script>alert('$x^')</script> & \"<img src=x onerror=alert(1)>\" {{ 7 * 7 }} $\\frac$"


def test_text_from_runs_is_shown_and_never_obeyed(tmp_path):
    config = json.loads(config_lib.to_json(make_config()))
    folder = tmp_path / "s" / "<b>bold"
    alarms = [record(2, alarms=["<i>alarm"])]
    evaluation = {"<u>kind-1/00000001.json": {"fd_<s>$x^$": 1.0}}
    make_run(folder, alarms, evaluation, config={**config, "name": EVIL})
    odd = {**config["began"], "gamma": 0.3, "$x^<h6>": 1}
    make_run(tmp_path / "s" / "b", config={**config, "name": "plain", "began": odd})
    page, lines = made(tmp_path, tmp_path / "s")
    assert {"script", "b", "i", "u", "s", "h6"} & set(page.tags) == {"b"}  # the legend's own
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert {line["name"] for line in page.table("run")} == {EVIL, "plain"}
    assert {line["run"] for line in page.table("run")} == {"<b>bold", "b"}
    assert "<i>alarm×1" in page.text
    assert {line["config.name"] for line in lines} == {EVIL, "plain"}


def test_the_page_needs_nothing_else(tmp_path):
    for gamma in (0.3, 0.5):
        make_run(tmp_path / "s" / str(gamma), began__gamma=gamma)
    page, _ = made(tmp_path, tmp_path / "s")
    loaded = [value for name, value in page.attributes if name in ("src", "href", "srcset", "data")]
    assert not {"link", "script", "iframe", "object", "base"} & set(page.tags)
    assert "url(" not in page.text
    assert "@import" not in page.text
    pictures = []
    for value in loaded:
        assert value.startswith(("data:image/png;base64,", "data:image/webp;base64,"))
        pictures.append(Image.open(io.BytesIO(base64.b64decode(value.split(",")[1]))))
    # four curves, two charts of gamma, and each run's newest grid
    assert len(pictures) == 4 + 2 + 2
    grids = [np.asarray(picture) for picture in pictures[-2:]]
    assert all((grid == 16).all() for grid in grids)
    assert page.text.count("16 images seen") == 2


def test_a_wide_grid_is_made_smaller(tmp_path, no_charts):
    run = make_run(tmp_path / "s")
    Image.fromarray(np.zeros((3000, 2048), np.uint8)).save(run / "samples" / "000000020.png")
    page, _ = made(tmp_path, tmp_path / "s")
    sources = [value for name, value in page.attributes if name == "src"]
    assert Image.open(io.BytesIO(base64.b64decode(sources[-1].split(",")[1]))).width == 1024


def groups_of(tmp_path, *configs):
    for i, config in enumerate(configs):
        make_run(tmp_path / "runs" / str(i), grid=False, **config)
    return tables.groups(run_folders.find([tmp_path])[0])


def test_numbers_that_vary_are_swept_gamma_first(tmp_path):
    configs = [
        {"model__n": n, "began__gamma": gamma, "began__shared_z": shared, "model__init": init}
        for n, shared, init in ((4, False, "he"), (8, True, "paper"))
        for gamma in (0.5, 0.3)
    ]
    groups = groups_of(tmp_path, *configs, {**configs[0], "seed": 1})
    assert charts.swept(groups) == ["gamma", "n"]
    lines = charts.lines(groups, "gamma")
    assert [[(x, len(runs)) for x, runs in line.points] for line in lines] == [
        *([(0.3, 1), (0.5, 2)], [(0.3, 1), (0.5, 1)])
    ]
    assert len({line.label for line in lines}) == 2
    kinds = charts.swept_metrics(
        ["m_global", "loss_real", "sample_spread", "recall", "precision", "a/fd_x", "ms_ssim"]
    )
    assert kinds == {
        "diversity": ["sample_spread", "recall", "ms_ssim"],
        "quality": ["m_global", "a/fd_x"],
    }


def test_a_mean_curve_goes_as_far_as_all_its_runs():
    whole, short = {8.0: 1.0, 16.0: 2.0, 24.0: 3.0}, {8.0: 3.0, 16.0: 6.0}
    assert charts.mean_series([whole, short]) == {8.0: 2.0, 16.0: 4.0}
    assert charts.mean_series([]) == {}


def test_colours_differ():
    for num in (1, 10, 11, 40):
        assert len(set(charts.colours(num))) == num
        assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in charts.colours(num))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["empty"], "empty: no run is there or below"),
        (["nowhere"], "nowhere: no such folder"),
        ([], "the following arguments are required: DIR; see --help"),
        (["empty", "--outt=x"], "unrecognized arguments: --outt=x; see --help"),
    ],
)
def test_a_mistake_ends_in_one_line(arguments, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert report.main([*arguments, "--out=out"]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert line in err
    assert not (tmp_path / "out").exists()


def test_an_out_that_cannot_be_written_is_one_line(tmp_path, capsys):
    run = make_run(tmp_path / "s")
    assert report.main([str(run), f"--out={run / 'config.json'}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_out_that_is_another_programs_is_refused_and_an_earlier_report_is_not(
    tmp_path, no_charts, capsys
):
    run, out = make_run(tmp_path / "s"), tmp_path / "out"
    for name in ("report.html", "runs.csv"):
        out.mkdir()
        (out / name).write_text("the user's")
        assert report.main([str(run), f"--out={out}"]) == 2
        assert capsys.readouterr().err == (
            f"--out={out}: holds {name}, which this command did not write. Choose another --out.\n"
        )
        assert [(path.name, path.read_text()) for path in out.iterdir()] == [(name, "the user's")]
        (out / name).unlink()
        out.rmdir()
    for _ in range(2):
        assert report.main([str(run), f"--out={out}"]) == 0


def test_a_missing_library_is_one_line(tmp_path, monkeypatch, capsys):
    run = make_run(tmp_path / "s")
    monkeypatch.delitem(sys.modules, "launch.charts", raising=False)
    monkeypatch.delattr("launch.charts")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert report.main([str(run), f"--out={tmp_path / 'out'}"]) == 2
    assert capsys.readouterr().err == (
        "launch/report.py needs matplotlib: pip install -r requirements-launch.txt\n"
    )
