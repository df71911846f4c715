"""A run that is disturbed at random, and whether it ends where an undisturbed one does.

    python -m tests.faults.soak --disturbances=200 --actions kill --out=kills.json
    python -m tests.faults.soak --config=configs/demo.py --hours=3         # make soak

Starts main.py again and again. A quarter of the processes are disturbed at a random moment from the
start on, the others when they have told of a step, at a random moment from then on, while they
train and save:

    kill     SIGKILL
    stop     SIGTERM, and it has a minute to save
    corrupt  SIGKILL, and a random bit of the newest checkpoint's arrays is flipped
    cut      SIGKILL, and a random file of the newest checkpoint is cut to half or removed
             (neither where there is no other)
    fill     the disk is full until the process ends, or for a minute (needs a mount: root, or user
             namespaces)

Each must go on from the newest checkpoint, or from the one before where the newest was damaged. In
the end the run goes on to a number of steps that it has not reached, another one goes there
undisturbed, and their fingerprints are compared. Prints and writes a JSON report; ends with 1 where
they differ, a process did not go on where it should, or one ended in a way that nobody asked for.
"""

import argparse
import collections
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import bench

ROOT = Path(__file__).parents[2]
ACTIONS = ("kill", "stop", "corrupt", "cut", "fill")
# Small enough to save and to make a step in milliseconds.
SMALL = [
    *("--config=configs/demo.py", "--config.model.resolution=16", "--config.model.n=8"),
    *("--config.data.num_images=500", "--config.train.num_samples=4"),
    *("--config.train.log_every_steps=10", "--config.train.checkpoint_every_steps=10"),
    "--config.train.sample_every_images=8000",
]
ENDLESS = 10**9
_DISK = 512  # MB
_GRACE = 60  # seconds
_RESUMED = re.compile(r"goes on from step (\d+)$", re.MULTILINE)
_STEP = re.compile(r"^step (\d+)/", re.MULTILINE)


def main() -> int:
    """Parses the flags, disturbs, compares, reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", help="default: a small one of the demo")
    parser.add_argument("--disturbances", type=int, default=10**9)
    parser.add_argument("--hours", type=float, default=10**9)
    parser.add_argument("--actions", nargs="+", choices=ACTIONS, default=list(ACTIONS))
    parser.add_argument("--longest", type=float, default=2.0, help="seconds left alone, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if "fill" in options.actions and os.geteuid() != 0:
        again = ["unshare", "-rm", sys.executable, "-m", "tests.faults.soak", *sys.argv[1:]]
        return subprocess.run(again, check=False).returncode

    run = [f"--config={options.config}"] if options.config else SMALL
    with tempfile.TemporaryDirectory() as folder:
        disk = Path(folder) / "disk"
        disk.mkdir()
        if "fill" in options.actions:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={_DISK}m", "none", disk], check=True
            )
        try:
            report = soak(run, disk / "run", Path(folder), options)
        finally:
            if "fill" in options.actions:
                subprocess.run(["umount", "--lazy", disk], check=True)
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    return int(not report["equal"] or bool(report["unasked_ends"]))


def soak(run: list[str], workdir: Path, spare: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Disturbs the run in `workdir`, makes another in `spare`; the report."""
    chance = random.Random(options.seed)
    began = time.monotonic()
    counts: collections.Counter[str] = collections.Counter()
    unasked: list[str] = []
    starting = saving = lost = reached = 0
    expected: set[int] = set()
    while counts.total() < options.disturbances and _hours(began) < options.hours:
        before = reached
        action = chance.choice(options.actions)
        told = spare / "told"
        process = start(run, workdir, ENDLESS, told)
        if chance.random() < 0.75:
            wait_for_a_step(process, told)
        time.sleep(chance.uniform(0, options.longest))
        damaged = disturb(action, process, workdir, chance)
        err = told.read_text()
        if process.returncode not in _EXPECTED[action]:
            unasked.append(f"{action}: {process.returncode}: {err[-500:]}")
        of_this = [int(step) for step in _STEP.findall(err)]
        resumed = {int(step) for step in _RESUMED.findall(err)}
        if of_this and not (resumed & expected if expected else not resumed):
            unasked.append(f"goes on from {resumed}, not from {expected}: {err[-500:]}")
        saved = sorted(steps(workdir))
        expected = set(saved[-2:] if damaged else saved[-1:])
        counts[action] += 1
        saving += any(workdir.glob("checkpoints/*.orbax-checkpoint-tmp"))
        reached = max([before, *of_this])
        starting += not of_this
        newest = saved[-1] if saved else 0
        lost = max(lost, max(of_this, default=newest) - newest)
        print(f"{counts.total()} {action}: at step {reached}, saved {newest}", file=sys.stderr)
    last = reached + 100
    ends = []
    for folder in (workdir, spare / "undisturbed"):
        told = spare / "told"
        if start(run, folder, last, told).wait():
            unasked.append(f"to the end: {told.read_text()[-500:]}")
        ends.append(fingerprint(folder))
    put_away = workdir / "damaged-checkpoints"
    return {
        "machine": bench.machine(),
        "disturbances": dict(counts),
        "while_starting": starting,
        "while_saving": saving,
        "steps": last,
        "most_steps_to_be_redone": lost,
        "checkpoints_put_away": len(list(put_away.iterdir())) if put_away.exists() else 0,
        "unasked_ends": unasked,
        "fingerprints": ends,
        "equal": ends[0] == ends[1],
        "hours": round(_hours(began), 3),
        "seed": options.seed,
        "longest_seconds": options.longest,
        "run": run,
    }


# A disk that is full is told (2), or not noticed in time.
_EXPECTED = {
    "kill": (-signal.SIGKILL,),
    "stop": (128 + signal.SIGTERM, -signal.SIGTERM),  # before it listens, the system ends it
    "corrupt": (-signal.SIGKILL,),
    "cut": (-signal.SIGKILL,),
    "fill": (2, -signal.SIGKILL),
}


def wait_for_a_step(process: "subprocess.Popen[bytes]", told: Path) -> None:
    """Until a process has told of its first step, or ended."""
    while process.poll() is None and not _STEP.search(told.read_text()):
        time.sleep(0.05)


def disturb(
    action: str, process: "subprocess.Popen[bytes]", workdir: Path, chance: random.Random
) -> bool:
    """Does it to a process and waits for its end; whether the newest checkpoint was damaged."""
    filler = workdir.parent / "filler"
    if action == "stop":
        process.terminate()
    elif action == "fill":
        with filler.open("wb") as file:
            while True:
                try:
                    file.write(bytes(1 << 16))
                    file.flush()
                except OSError:
                    break
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
    else:
        process.kill()
    process.wait(_GRACE)
    filler.unlink(missing_ok=True)
    if action in ("corrupt", "cut") and len(saved := steps(workdir)) > 1:
        newest = workdir / "checkpoints" / str(max(saved))
        damage(newest, chance, flip=action == "corrupt")
        return True
    return False


def damage(checkpoint: Path, chance: random.Random, *, flip: bool) -> None:
    """Flips a bit of the arrays, or cuts or removes any file."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    if flip:
        files = [path for path in files if "/d/" in str(path)]
    path = chance.choice(files)
    content = bytearray(path.read_bytes())
    if flip:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
    elif chance.random() < 0.5:
        path.write_bytes(content[: len(content) // 2])
    else:
        path.unlink()


def start(run: list[str], workdir: Path, num_steps: int, told: Path) -> "subprocess.Popen[bytes]":
    """main.py on the run in `workdir`; what it tells goes to a file."""
    arguments = [*run, f"--workdir={workdir}", f"--config.train.num_steps={num_steps}"]
    command = [sys.executable, "main.py", *arguments]
    with told.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT)


def steps(workdir: Path) -> list[int]:
    """The steps saved."""
    folder = workdir / "checkpoints"
    return [int(path.name) for path in folder.glob("*") if path.name.isdigit()]


def fingerprint(workdir: Path) -> str:
    """What --mode=fingerprint prints."""
    command = [sys.executable, "main.py", f"--workdir={workdir}", "--mode=fingerprint"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.strip()


def _hours(began: float) -> float:
    return (time.monotonic() - began) / 3600


if __name__ == "__main__":
    sys.exit(main())
