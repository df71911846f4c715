"""What a run tells: metrics.jsonl, TensorBoard, PNG grids, the progress line."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from began_jax import errors, event_files, files, grids, health, progress, run_folder, run_page
from began_jax.config import flatten
from began_jax.event_files import TensorBoardWriter
from began_jax.schema import Config, TrainConfig

Scalars = Mapping[str, float]


class Telemetry:
    """The run folder's records and the progress line; use as a context manager."""

    def __init__(self, workdir: Path, config: Config, start_step: int):
        """Opens the records after `start_step`; what a cut-off run wrote later is dropped."""
        self._workdir = workdir
        self._config = config
        self._batch_size = config.train.batch_size
        self._jsonl = _reopen_jsonl(workdir / "metrics.jsonl", start_step)
        _drop_grids(workdir, start_step * self._batch_size, self._batch_size)
        self._raised: set[str] = set()
        self._tensorboard: TensorBoardWriter | None = None
        self._own_alarms: dict[str, str] = {}
        with self._without_tensorboard_if_it_fails():
            self._tensorboard = TensorBoardWriter(workdir / "tensorboard", start_step + 1)
            if not start_step:
                self._tensorboard.write_hparams(flatten(config))
        self._bar = tqdm(
            total=config.train.num_steps,
            initial=start_step,
            unit="step",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )

    def __enter__(self) -> "Telemetry":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.close()
        if self._tensorboard is not None:
            with self._without_tensorboard_if_it_fails():
                self._tensorboard.close()
        self._jsonl.close()

    def advance(self, num_steps: int) -> None:
        """Moves the progress bar."""
        self._bar.update(num_steps)

    def write_scalars(
        self, step: int, num_steps: int, scalars: Scalars, alarms: Mapping[str, str]
    ) -> None:
        """Records the means over the last `num_steps` steps, and alarms.

        Shows them on the bar or, without a terminal, as a line.
        """
        self._write_tensorboard(step, scalars, alarms)
        told = {**alarms, **self._own_alarms}
        images = step * self._batch_size
        self._write_line({"step": step, "num_steps": num_steps, "images": images, **scalars}, told)
        if self._bar.disable:
            line = _plain_line(step, self._config.train, scalars, told)
            print(line, file=sys.stderr, flush=True)
        else:
            self._bar.set_postfix_str(_summary(scalars, told), refresh=False)
        self._tell(step, alarms)
        for name in sorted(self._raised - alarms.keys()):
            progress.say(f"alarm {name} is over, step {step}")
        self._raised = set(alarms)

    def write_alarms(self, step: int, alarms: Mapping[str, str]) -> None:
        """Records alarms of steps that have no scalars, and so cannot tell that others are over."""
        self._write_tensorboard(step, {}, alarms)
        self._write_line({"step": step, "images": step * self._batch_size}, alarms)
        self._tell(step, alarms)

    def write_grids(
        self, step: int, samples: np.ndarray, real: np.ndarray, d_real: np.ndarray | None
    ) -> None:
        """Records uint8 (N, H, W, C) samples, real images and, if there are, reconstructions.

        Samples also become samples/<images seen>.png; data never leaves the event file.
        """
        named = {"samples": samples, "real": real}
        if d_real is not None:
            named["reconstructions"] = d_real
        if self._tensorboard is not None:
            with self._without_tensorboard_if_it_fails():
                shown = {name: grids.grid(images)[None] for name, images in named.items()}
                self._tensorboard.write_images(step, shown)
        name = run_folder.sample_grid_name(step * self._batch_size)
        picture = grids.enlarged(grids.grid(samples), samples.shape[1])
        grids.save_png(self._workdir / "samples" / name, picture)

    def write_page(self) -> None:
        """Makes report.html anew."""
        run_page.write(self._workdir, self._config)

    def _write_line(self, record: Scalars, alarms: Mapping[str, str]) -> None:
        if not self._is_there():
            raise errors.UserError(
                f"{self._workdir}: it was removed or renamed while the run was in it"
            )
        told: dict[str, Any] = {"alarms": sorted(alarms)} if alarms else {}
        self._jsonl.write(json.dumps({**record, **told}) + "\n")
        self._jsonl.flush()

    def _is_there(self) -> bool:
        """Whether what is written is what others find in the folder."""
        try:
            found = os.stat(self._jsonl.name)
        except OSError:
            return False
        return os.path.samestat(found, os.fstat(self._jsonl.fileno()))

    def _write_tensorboard(self, step: int, scalars: Scalars, alarms: Mapping[str, str]) -> None:
        if self._tensorboard is not None:
            with self._without_tensorboard_if_it_fails():
                flags = {f"alarm/{name}": float(name in alarms) for name in health.ALARMS}
                self._tensorboard.write_scalars(step, {**scalars, **flags})
                self._tensorboard.flush()

    def _tell(self, step: int, alarms: Mapping[str, str]) -> None:
        """Says of an alarm once that it is there."""
        for name in sorted(alarms.keys() - self._raised):
            remedy = health.ALARMS[name].remedy
            progress.say(f"ALARM {name}, step {step}: {alarms[name]}. What to try: {remedy}")

    @contextlib.contextmanager
    def _without_tensorboard_if_it_fails(self) -> Iterator[None]:
        """A run is worth more than its curves."""
        try:
            yield
        except OSError as error:
            if self._tensorboard is not None:
                with contextlib.suppress(OSError):
                    self._tensorboard.close()
            self._tensorboard = None
            text = f"{self._workdir / 'tensorboard'}: {errors.one_line(error)}"
            self._own_alarms["tensorboard"] = text
            progress.say(f"ALARM tensorboard: {text}; training goes on")


class Silence:
    """What `Telemetry` is in all processes of a run but the first."""

    def __enter__(self) -> "Silence":
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def advance(self, num_steps: int) -> None:
        """Shows nothing."""

    def write_scalars(
        self, step: int, num_steps: int, scalars: Scalars, alarms: Mapping[str, str]
    ) -> None:
        """Writes nothing."""

    def write_alarms(self, step: int, alarms: Mapping[str, str]) -> None:
        """Writes nothing."""

    def write_grids(
        self, step: int, samples: np.ndarray, real: np.ndarray, d_real: np.ndarray | None
    ) -> None:
        """Writes nothing."""

    def write_page(self) -> None:
        """Writes nothing."""


def write_evaluations(workdir: Path, name: str, by_step: Mapping[int, Scalars]) -> None:
    """Rewrite the event file in tensorboard/eval-<name>, or log the error; the steps ascend.

    A TensorBoard run of its own: in the training's a new file or an earlier step would hide what
    was written later.
    """
    folder = workdir / "tensorboard" / f"eval-{name}"
    try:
        files.check_no_link(folder)
        event_files.remove(folder)
        writer = TensorBoardWriter(folder, purge_step=None)
        for step, scalars in by_step.items():
            writer.write_scalars(step, {f"eval/{tag}": value for tag, value in scalars.items()})
        writer.close()
    except (errors.UserError, OSError) as error:
        progress.say(
            f"ALARM tensorboard: {folder}: {errors.one_line(error)}; the report is written"
        )


def _reopen_jsonl(path: Path, start_step: int) -> Any:
    kept = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            # The torn last line of a killed run, and whatever else is no record.
            with contextlib.suppress(ValueError, KeyError, TypeError):
                if json.loads(line)["step"] <= start_step:
                    kept.append(line + "\n")
    files.write_text(path, "".join(kept))
    return path.open("a", encoding="utf-8")


def _drop_grids(workdir: Path, num_images: int, batch_size: int) -> None:
    """Remove the grids of more than `num_images` images, which a rollback or a kill cut off."""
    for images, path in run_folder.sample_grids(workdir).items():
        if images > num_images and images % batch_size == 0 and not path.is_symlink():
            path.unlink()


def _summary(scalars: Scalars, alarms: Mapping[str, str]) -> str:
    shown = {
        "img/s": f"{scalars['images_per_second']:.0f}",
        "L(x)": f"{scalars['loss_real']:.4f}",
        "L(G)": f"{scalars['loss_fake']:.4f}",
        "k": f"{scalars['k']:.4f}",
        "M": f"{scalars['m_global']:.4f}",
        "spread": f"{scalars['sample_spread']:.2f}",
        "lr": f"{scalars['learning_rate']:.1e}",
    }
    told = [f"ALARM {name}" for name in sorted(alarms)]
    return " ".join([*(f"{name} {value}" for name, value in shown.items()), *told])


def _plain_line(step: int, config: TrainConfig, scalars: Scalars, alarms: Mapping[str, str]) -> str:
    images_left = (config.num_steps - step) * config.batch_size
    eta = tqdm.format_interval(images_left / scalars["images_per_second"])
    return f"step {step}/{config.num_steps} {_summary(scalars, alarms)} ETA {eta}"
