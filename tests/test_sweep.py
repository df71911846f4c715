"""Sweeps: names, validation before anything is written, the pool, SLURM's jobs, real runs."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from began_jax import checkpoints, restoring
from began_jax import config as config_lib
from launch import command_line, points, pool, slurm_array, sweep
from launch.pool import Job
from tests.conftest import ROOT

DEMO = "configs/demo.py"
# How ml_collections loads a config file.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    # Its logging, once configured, has absl's close the stream that pytest captures.
    monkeypatch.setenv("SUBMITIT_LOG_LEVEL", "NOCONFIG")


def runs(*grids, lists=(), fixed=(), seeds=None, config=DEMO):
    return points.runs(config, list(fixed), list(lists), list(grids), seeds)


def names(*grids, **others):
    return [run.name for run in runs(*grids, **others)]


def test_every_point_with_every_seed_is_a_run():
    found = runs(
        "config.began.gamma=0.3,0.5",
        lists=["config.model.n=4", "config.model.n=8 config.began.eta=2"],
        fixed=["--config.train.num_steps=70"],
        seeds=3,
    )
    assert {
        (run.config.began.gamma, run.config.model.n, run.config.began.eta, run.config.seed)
        for run in found
    } == {(g, n, e, s) for g in (0.3, 0.5) for n, e in ((4, 1), (8, 2)) for s in range(3)}
    assert {run.config.train.num_steps for run in found} == {70}
    assert len({run.name for run in found}) == len(found) == 12


def test_names_are_short_and_the_same_in_every_sweep():
    assert names("config.began.gamma=0.3,0.5", seeds=2) == [
        *("gamma=0.3,seed=0", "gamma=0.3,seed=1", "gamma=0.5,seed=0", "gamma=0.5,seed=1")
    ]
    n_and_gamma = names("config.model.n=4", "config.began.gamma=.30", seeds=1)
    assert (
        n_and_gamma
        == names("config.began.gamma=0.3", "config.model.n=4")
        == ["n=4,gamma=0.3,seed=0"]
    )
    assert names("config.data.name=x", fixed=["--config.seed=7"]) == ["data.name=x,seed=7"]
    assert names("config.seed=5,6") == ["seed=5", "seed=6"]


def test_names_suit_every_file_system():
    values = ["a/b", "../c", "", " ", "ä=$(x)", "\n", "x" * 300, "x" * 301]
    found = [
        *names(lists=[f"config.data.path={shlex.quote(value)}" for value in values]),
        *names("config.optim.learning_rate=5e-5,0.001"),
    ]
    assert len(set(found)) == len(found)
    for name in found:
        assert re.fullmatch(r"[\w.+%=,-]{1,255}", name, re.ASCII), name


def test_without_run_it_prints_what_the_shell_needs(tmp_path, capsys):
    workdir = tmp_path / "a sweep"
    arguments = ["--grid", "config.data.path=a b,$HOME", "--config.model.n=4"]
    assert sweep.main([f"--config={DEMO}", f"--workdir={workdir}", "--seeds=2", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == "4 runs, none started; --run=local or --run=slurm does\n"
    lines = out.splitlines()
    found = [shlex.split(line) for line in lines]
    assert {tuple(words[:2]) for words in found} == {("python", "main.py")}
    configs = [points.parse(words[2:-1]) for words in found]
    assert [(c.data.path, c.seed, c.model.n) for c in configs] == [
        *(("a b", 0, 4), ("a b", 1, 4), ("$HOME", 0, 4), ("$HOME", 1, 4))
    ]
    assert found[0][-1] == f"--workdir={workdir}/path=a%20b,seed=0"
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--grid config.began.gama=0.3,0.5", "config.began.gama: no such field; did you mean"),
        ("--grid config.model.n=4,many", "config.model.n = 'many': int is needed"),
        ("--grid config.model.n=4,0", "config.model.n = 0: 1 or more"),
        (
            "--grid config.optim.learning_rate=0.001,1e-5 --seeds=2",
            "config.optim.learning_rate=1e-5 config.seed=0: config.optim.min_learning_rate = 2e-05",
        ),
        ("--grid config.began.gamma=0.5,", "config.began.gamma = '': float is needed"),
        ("--grid config.began.shared_z=2", "config.began.shared_z = '2': bool is needed"),
        ("--grid config.model=4", "config.model: a group of fields; one of them is needed"),
        ("--grid gamma=0.5", "--grid=gamma=0.5: config.<field>=<value>,<value>"),
        ("--list config.seed", "--list=config.seed: 'config.<field>=<value> ...'"),
        ("""--list "config.name='a" """, "'config.<field>=<value> ...' is needed"),
        (
            "--grid config.began.gamma=0.5,0.50",
            "config.began.gamma=0.50 config.seed=0: the same run as config.began.gamma=0.5 ",
        ),
        ("--grid config.model.n=4 --config.model.n=8", "config.model.n: it is set twice"),
        ("--grid config.model.n=4 --list config.model.n=8", "config.model.n: it is set twice"),
        ("--grid config.seed=1 --seeds=2", "config.seed: it is set twice"),
        ("--config.model.n=many", "flag --config.model.n=many: invalid literal"),
        ("--config.model.nn=4", "config.model.nn: no such field; did you mean config.model.n?"),
        ("--config=configs/none.py", "--config=configs/none.py: no such file"),
        ("--config=README.md", "README.md, line"),
        ("--config=configs/folder.py", "config.data.path = '': a path is needed"),
        ("--seeds=0", "--seeds: 0: a number, 1 or more, is needed"),
        ("--gird=x", "--gird=x: no such flag; see --help"),
        ("x", "x: flags alone are expected; see --help"),
        ("--workdir=", "--workdir: a path is needed"),
        ("--workdir=README.md/x", "--workdir=README.md/x: no folder can be there"),
        ("--slurm_mem=4GB", "--slurm_mem: it needs --run=slurm"),
        ("--run=slurm", "--slurm_time=<minutes> is needed, 5 or more"),
        ("--run=slurm --slurm_time=2", "--slurm_time=<minutes> is needed, 5 or more"),
        ("--run=cloud", "invalid choice: 'cloud'"),
    ],
)
def test_a_mistake_ends_in_one_line_and_nothing_is_written(
    arguments, line, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sweep, "_MAIN", Path(os.devnull))  # it would not train, if it came to that
    given = [f"--config={DEMO}", f"--workdir={tmp_path / 'sweep'}", "--run=local", "--jobs=1"]
    assert sweep.main([*given, *shlex.split(arguments)]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert line in err
    assert not (tmp_path / "sweep").exists()


def test_jobs_without_run_are_refused(tmp_path, capsys):
    assert sweep.main([f"--config={DEMO}", f"--workdir={tmp_path}", "--jobs=2"]) == 2
    assert capsys.readouterr().err == "--jobs: it needs --run=local or --run=slurm\n"


def test_a_folder_is_not_given_to_another_config(tmp_path, monkeypatch, capsys):
    (run,) = runs(fixed=["--config.model.n=4"])
    (tmp_path / run.name).mkdir()
    (tmp_path / run.name / "config.json").write_text(config_lib.to_json(run.config))
    monkeypatch.setattr(sweep, "_MAIN", Path(os.devnull))
    arguments = [f"--config={DEMO}", f"--workdir={tmp_path}", "--run=local", "--seeds=2"]
    assert sweep.main([*arguments, "--config.model.n=8"]) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path / run.name}: it holds a run of another config\n"
        "config.model.n: 4 there, 8 here\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == [run.name]


def python(program):
    return [sys.executable, "-c", program]


def test_a_failed_job_is_named_and_the_others_go_on(tmp_path, capsys):
    def job(name, program):
        return Job(name, python(program), tmp_path / name)

    (tmp_path / "blocked").write_text("no folder can be here")
    outcome = pool.run(
        [
            job("bad", "print('why it failed', flush=True); raise SystemExit(3)"),
            job("dead", "import os; print(1); os.kill(os.getpid(), 9)"),
            job("blocked", ""),
            job("good", "print('fine')"),
        ],
        [{}],
    )
    assert outcome.stopped_by is None
    assert [line.split(": ")[:2] for line in outcome.failed] == [
        *(["bad", "exit status 3"], ["dead", "SIGKILL"], ["blocked", "cannot be started"])
    ]
    assert outcome.failed[0] == "bad: exit status 3: why it failed"
    assert (tmp_path / "good" / "log.txt").read_text() == "fine\n"
    pool.run([job("good", "print('again')")], [{}])
    assert (tmp_path / "good" / "log.txt").read_text() == "fine\nagain\n"
    assert "[4/4] good: done in 0:00:0" in capsys.readouterr().err


def test_each_job_has_a_gpu_of_its_own(tmp_path, monkeypatch):
    """Two GPUs, four jobs: each notes what it was given while it runs, none meets its like."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6")
    program = (
        "import os, pathlib; taken = pathlib.Path(os.environ['CUDA_VISIBLE_DEVICES'])\n"
        "taken.touch(exist_ok=False); print(taken); taken.unlink()"
    )
    monkeypatch.chdir(tmp_path)
    jobs = [Job(str(i), python(program), tmp_path / f"job{i}") for i in range(4)]
    assert pool.run(jobs, pool.slots(None)).failed == []
    given = [job.log.read_text().strip() for job in jobs]
    assert set(given) == {"4", "6"}


def test_as_many_jobs_as_gpus_or_as_asked(monkeypatch, tmp_path, capsys):
    listed = tmp_path / "nvidia-smi"
    listed.write_text("#!/bin/sh\nprintf 'GPU 0: A (UUID: x)\\n  MIG 1g\\nGPU 1: A (UUID: y)\\n'")
    listed.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert pool.gpus() == ["0", "1"]
    assert len(pool.slots(None)) == 2
    assert pool.slots(1) == [{"CUDA_VISIBLE_DEVICES": "0"}]
    given = [f"--config={DEMO}", f"--workdir={tmp_path / 'sweep'}", "--run=local", "--jobs=3"]
    assert sweep.main(given) == 2
    assert "--jobs=3: each gets a GPU of its own, and there are 2" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()
    for visible in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert pool.gpus() == []
        assert (pool.slots(None), pool.slots(3)) == ([{}], [{}] * 3)


@pytest.fixture
def terminal():
    """SIGHUP as in a terminal: under nohup it is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_asked_to_stop_it_asks_the_running_once_and_starts_no_more(tmp_path, number, capsys):
    program = f"""
import os, signal, sys
count = []
signal.signal(signal.SIGTERM, lambda *_: count.append(1))
signal.signal(signal.SIGINT, lambda *_: count.append(2))
assert os.getpgrp() != os.getpgid(os.getppid())  # where a terminal's Ctrl-C does not reach it
os.kill(os.getppid(), {int(number)})
while not count:
    signal.pause()
print(count, 'saved')
sys.exit(128 + signal.SIGTERM)
"""
    jobs = [Job(name, python(program), tmp_path / name) for name in ("one", "two")]
    outcome = pool.run(jobs, [{}])
    assert outcome == ([], number)
    assert jobs[0].log.read_text() == "[1] saved\n"
    assert not jobs[1].folder.exists()
    err = capsys.readouterr().err
    assert f"{number.name}: 1 running are asked to save, 1 are not started" in err
    assert "one: stopped: [1] saved" in err


def test_a_second_ctrl_c_kills_what_still_saves_and_ends_in_a_line(tmp_path, capsys):
    program = f"""
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getppid(), {int(signal.SIGINT)}))
os.kill(os.getppid(), {int(signal.SIGINT)})
while True:
    time.sleep(1)
"""
    job = Job("one", python(program), tmp_path / "one")
    main = command_line.ending_in_one_line(lambda _: len(pool.run([job], [{}]).failed))
    assert main([]) == 128 + signal.SIGINT
    assert capsys.readouterr().err.endswith("interrupted\n")


def test_a_place_that_is_free_while_others_save_is_left_free(tmp_path):
    def program(stop):
        return f"""
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: ({stop}, sys.exit(143)))
print(1, flush=True)
while True:
    time.sleep(0.01)
"""

    asks = "import os, pathlib, signal, time\n"
    asks += f"while not pathlib.Path({str(tmp_path / 'slow' / 'log.txt')!r}).stat().st_size: pass\n"
    asks += "os.kill(os.getppid(), signal.SIGTERM)"
    jobs = [
        Job("slow", python(program("time.sleep(1)")), tmp_path / "slow"),
        Job("asks", python(asks), tmp_path / "asks"),
        Job("waits", python(""), tmp_path / "waits"),
    ]
    assert pool.run(jobs, [{}, {}]) == ([], signal.SIGTERM)
    assert not (tmp_path / "waits").exists()


def test_without_submitit_or_slurm_it_is_one_line(tmp_path, monkeypatch, capsys):
    given = [f"--config={DEMO}", f"--workdir={tmp_path / 'sweep'}", "--run=slurm"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sweep.main([*given, "--slurm_time=60"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("--run=slurm: ")
    assert len(err.splitlines()) == 1
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert sweep.main([*given, "--slurm_time=60"]) == 2
    assert capsys.readouterr().err == (
        "--run=slurm needs submitit: pip install -r requirements-launch.txt\n"
    )


def submitted_locally(job, folder):
    """Under submitit's own local executor, which signals and requeues as its SLURM one does."""
    import submitit

    (made,) = slurm_array.submit(
        [job],
        {"slurm_time": 1, "slurm_mem": "1GB", "slurm_array_parallelism": 1},
        folder,
        lambda folder: submitit.AutoExecutor(folder, cluster="local"),
    )
    return made


def test_a_preempted_job_saves_and_goes_on(tmp_path, capsys):
    """SLURM's signals reach every process, SIGTERM twice, also before the run listens to it."""
    program = f"""
import os, pathlib, signal, sys, time
state = pathlib.Path({str(tmp_path / "state")!r})
if state.exists():
    print('goes on'); sys.exit()
print('began', flush=True)
for pid in (os.getpid(), os.getppid()):
    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGTERM):
        os.kill(pid, number)
noted = []
before = signal.getsignal(signal.SIGTERM)
def note(number, frame):  # as main.py does
    noted.append(number); signal.signal(number, before)
signal.signal(signal.SIGTERM, note)
while not noted:
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGTERM)
state.touch(); print('saved', flush=True); sys.exit(128 + signal.SIGTERM)
"""
    job = Job("run", python(program), tmp_path / "run")
    made = submitted_locally(job, tmp_path / "slurm")
    made.result()
    made._process.wait()
    assert job.log.read_text().splitlines() == ["began", "saved", "goes on"]
    err = capsys.readouterr().err
    assert f"job {made.job_id}: run, log {job.log}" in err
    assert str(tmp_path / "slurm") in err


def test_a_failed_job_has_failed(tmp_path):
    job = Job("run", python("raise SystemExit(3)"), tmp_path / "run")
    made = submitted_locally(job, tmp_path / "slurm")
    assert f"exit status 3, see {job.log}" in str(made.exception())
    made._process.wait()


RUN = [
    f"--config={DEMO}",
    "--config.model.resolution=16",
    "--config.model.n=4",
    "--config.model.conv=phases",
    "--config.data.num_images=64",
    "--config.train.num_samples=4",
    "--config.train.log_every_steps=10",
    "--config.train.checkpoint_every_steps=10000",
]
STEPS = 250
ENDLESS = "--config.train.num_steps=100000000"


def start(*arguments, cache):
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "BEGAN_JAX_CACHE": str(cache)}
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )


def finish(process):
    _, err = process.communicate(timeout=200)
    return process.returncode, err


def wait_for(text, path, process):
    while not (path.exists() and text in path.read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def fingerprint(workdir):
    _, state = restoring.restore(workdir, None)
    return int(state.step), checkpoints.fingerprint(state)


@pytest.mark.slow
def test_interrupted_and_resumed_it_ends_as_an_undisturbed_one(tmp_path):
    folder, cache = tmp_path / "sweep", tmp_path / "cache"
    run = ["launch/sweep.py", *RUN, "--seeds=2", "--run=local", f"--workdir={folder}"]
    steps = f"--config.train.num_steps={STEPS}"
    first, second, whole = folder / "seed=0", folder / "seed=1", tmp_path / "whole"

    undisturbed = start("main.py", *RUN, steps, f"--workdir={whole}", cache=cache)
    interrupted = start(*run, ENDLESS, cache=cache)
    wait_for("step 20/", first / "log.txt", interrupted)
    interrupted.send_signal(signal.SIGINT)
    status, err = finish(interrupted)
    assert status == 128 + signal.SIGINT, err
    assert "seed=0: stopped: SIGTERM: saved at step" in err
    assert not second.exists()
    assert 20 <= fingerprint(first)[0] < STEPS
    assert finish(undisturbed)[0] == 0

    status, err = finish(start(*run, steps, "--jobs=2", cache=cache))
    assert status == 0, err
    assert fingerprint(first) == fingerprint(whole)
    assert fingerprint(second)[0] == STEPS
    assert fingerprint(second) != fingerprint(first)

    before = (first / "log.txt").read_bytes()
    status, err = finish(start(*run, steps, cache=cache))
    assert (status, (first / "log.txt").read_bytes()) == (0, before)
    assert err.splitlines() == [
        *(f"seed={seed}: is finished already" for seed in (0, 1)),
        "2 finished before, 0 done, 0 failed",
    ]


def test_failed_runs_are_named_at_the_end_with_a_status(tmp_path, monkeypatch, capsys):
    program = tmp_path / "main.py"  # fails where gamma is 0.3
    program.write_text("import sys\nif '--config.began.gamma=0.3' in sys.argv: sys.exit('too low')")
    monkeypatch.setattr(sweep, "_MAIN", program)
    folder = tmp_path / "sweep"
    arguments = ["--grid=config.began.gamma=0.3,0.5", "--seeds=2", "--run=local", "--jobs=2"]
    assert sweep.main([*RUN, *arguments, f"--workdir={folder}"]) == 1
    assert capsys.readouterr().err.splitlines()[-3:] == [
        *(f"failed: gamma=0.3,seed={seed}: exit status 1: too low" for seed in (0, 1)),
        "0 finished before, 2 done, 2 failed",
    ]
    program.write_text("")
    assert sweep.main([*RUN, *arguments, f"--workdir={folder}"]) == 0


def test_a_run_is_finished_with_its_last_step_and_its_very_config(tmp_path):
    (run,) = runs(fixed=["--config.train.num_steps=20"])
    assert not sweep.is_finished(run, tmp_path)
    (tmp_path / "config.json").write_text(config_lib.to_json(run.config))
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    (tmp_path / "checkpoints" / "10" / "_CHECKPOINT_METADATA").touch()
    (tmp_path / "checkpoints" / "20.orbax-checkpoint-tmp-1").mkdir()
    (tmp_path / "checkpoints" / "20.orbax-checkpoint-tmp-1" / "_CHECKPOINT_METADATA").touch()
    assert not sweep.is_finished(run, tmp_path)
    (tmp_path / "checkpoints" / "20").mkdir()
    assert not sweep.is_finished(run, tmp_path)
    (tmp_path / "checkpoints" / "20" / "_CHECKPOINT_METADATA").touch()
    assert sweep.is_finished(run, tmp_path)
    values = json.loads(config_lib.to_json(run.config))
    values["train"]["log_every_steps"] += 1
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert not sweep.is_finished(run, tmp_path)


def test_two_sweeps_do_not_share_a_folder(tmp_path):
    from began_jax import files

    with files.exclusive(tmp_path):
        process = start(
            "launch/sweep.py", *RUN, "--run=local", f"--workdir={tmp_path}", cache=tmp_path
        )
        status, err = finish(process)
    assert (status, err) == (2, f"{tmp_path}: another process is working in it\n")
    assert {path.name for path in Path(tmp_path).iterdir()} == {".lock"}
