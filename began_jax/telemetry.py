"""What a run tells: metrics.jsonl, TensorBoard, PNG grids, the progress line, its provenance.

The only module that imports clu and tensorboardX.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import types
import uuid
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorboardX
from tqdm import tqdm

from began_jax import backends, errors, files, grids
from began_jax.config import Config, flatten

Scalars = Mapping[str, float]

_PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow"),
    *("clu", "ml-collections", "tensorboardX", "tensorflow-datasets"),
)


def _import_metric_writers() -> Any:
    """clu.metric_writers, without the TensorFlow of a writer that is not used here."""
    name = "clu.metric_writers.summary_writer"
    if name not in sys.modules:
        placeholder = types.ModuleType(name)
        placeholder.SummaryWriter = None  # type: ignore[attr-defined]
        sys.modules[name] = placeholder
    from clu import metric_writers

    return metric_writers


class TensorBoardWriter(_import_metric_writers().MetricWriter):  # type: ignore[misc]
    """clu's writer interface over tensorboardX, for what this project writes."""

    def __init__(self, directory: Path, purge_step: int | None):
        """Events of steps from `purge_step` on, left by a run that was cut off, are hidden."""
        self._writer = tensorboardX.SummaryWriter(
            str(directory),
            purge_step=purge_step,
            # Else two writers within a second would write to one file, the second over the first.
            filename_suffix=f".{uuid.uuid4().hex}",
        )

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Numbers by name."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, float(value), step)

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """Images (N, H, W, C) by name, uint8 0..255."""
        for name, batch in images.items():
            self._writer.add_images(name, np.asarray(batch), step, dataformats="NHWC")

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Markdown by name."""
        for name, text in texts.items():
            self._writer.add_text(name, text, step)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Flat settings, shown beside `m_global` in TensorBoard's table of runs."""
        summaries = tensorboardX.summary.hparams(dict(hparams), {"m_global": 0.0})
        for summary in summaries:  # add_hparams would make a run of its own
            self._writer.file_writer.add_summary(summary)

    def write_histograms(self, step: int, arrays: Any, num_buckets: Any = None) -> None:
        """Arrays by name; TensorBoard's own buckets."""
        for name, values in arrays.items():
            self._writer.add_histogram(name, np.asarray(values), step)

    def write_summaries(self, step: int, values: Any, metadata: Any = None) -> None:
        """Not supported."""
        raise NotImplementedError("tensorboardX has no raw summaries")

    def write_videos(self, step: int, videos: Any) -> None:
        """Not supported."""
        raise NotImplementedError("this project writes no videos")

    def write_audios(self, step: int, audios: Any, *, sample_rate: int) -> None:
        """Not supported."""
        raise NotImplementedError("this project writes no audio")

    def flush(self) -> None:
        """Writes what is buffered."""
        self._writer.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._writer.close()


class Telemetry:
    """The run folder's records and the progress line; use as a context manager."""

    def __init__(self, workdir: Path, config: Config, start_step: int):
        """Opens the records after `start_step`; what a cut-off run wrote later is dropped."""
        self._workdir = workdir
        self._batch_size = config.train.batch_size
        self._num_steps = config.train.num_steps
        self._jsonl = _reopen_jsonl(workdir / "metrics.jsonl", start_step)
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
        self._tensorboard.close()
        self._jsonl.close()

    def advance(self, num_steps: int) -> None:
        """Moves the progress bar."""
        self._bar.update(num_steps)

    def write_scalars(self, step: int, scalars: Scalars) -> None:
        """Records scalars and shows them on the bar or, without a terminal, as a line."""
        if os.fstat(self._jsonl.fileno()).st_nlink == 0:
            raise errors.UserError(f"{self._workdir}: it was removed while the run was in it")
        record = {"step": step, "images": step * self._batch_size, **scalars}
        self._jsonl.write(json.dumps(record) + "\n")
        self._jsonl.flush()
        self._tensorboard.write_scalars(step, scalars)
        self._tensorboard.flush()
        if self._bar.disable:
            print(
                _plain_line(step, self._num_steps, self._batch_size, scalars),
                file=sys.stderr,
                flush=True,
            )
        else:
            self._bar.set_postfix_str(_summary(scalars), refresh=False)

    def write_grids(
        self, step: int, samples: np.ndarray, real: np.ndarray, d_real: np.ndarray
    ) -> None:
        """Records uint8 (N, H, W, C) samples, real images and their reconstructions.

        Samples also become samples/<images seen>.png; data never leaves the event file.
        """
        named = {"samples": samples, "real": real, "reconstructions": d_real}
        self._tensorboard.write_images(step, {k: grids.grid(v)[None] for k, v in named.items()})
        name = f"{step * self._batch_size:09d}.png"
        grids.save_png(self._workdir / "samples" / name, grids.grid(samples))


def write_provenance(workdir: Path, config: Config, start_step: int) -> None:
    """Appends this start of the run to provenance.json: code, packages, devices, command, time."""
    path = workdir / "provenance.json"
    changes = _git("status", "--porcelain", "--untracked-files=no")
    starts = json.loads(path.read_text()) if path.exists() else []
    starts.append(
        {
            "start_step": start_step,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "command": sys.argv,
            "commit": commit(),
            "uncommitted_changes": None if changes is None else bool(changes),
            "python": sys.version.split()[0],
            "packages": {name: _version(name) for name in _PACKAGES},
            "xla_flags": os.environ.get("XLA_FLAGS"),
            "compiler_options": backends.compiler_options(config.model),
            "conv": config.model.conv,
            "steps_per_dispatch": config.train.steps_per_dispatch,
            "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
        }
    )
    files.write_text(path, json.dumps(starts, indent=2) + "\n")


def write_evaluation(workdir: Path, step: int, scalars: Scalars) -> None:
    """Adds a checkpoint's metrics to the run's TensorBoard, under eval/."""
    writer = TensorBoardWriter(workdir / "tensorboard", purge_step=None)
    writer.write_scalars(step, {f"eval/{name}": value for name, value in scalars.items()})
    writer.close()


def commit() -> str | None:
    """The program's own commit, or None where there is no git."""
    return _git("rev-parse", "HEAD")


def _reopen_jsonl(path: Path, start_step: int) -> Any:
    kept = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # the torn last line of a killed run
                if json.loads(line)["step"] <= start_step:
                    kept.append(line + "\n")
    files.write_text(path, "".join(kept))
    return path.open("a", encoding="utf-8")


def _summary(scalars: Scalars) -> str:
    shown = {
        "img/s": f"{scalars['images_per_second']:.0f}",
        "L(x)": f"{scalars['loss_real']:.4f}",
        "L(G)": f"{scalars['loss_fake']:.4f}",
        "k": f"{scalars['k']:.4f}",
        "M": f"{scalars['m_global']:.4f}",
        "spread": f"{scalars['sample_spread']:.2f}",
        "lr": f"{scalars['learning_rate']:.1e}",
    }
    return " ".join(f"{name} {value}" for name, value in shown.items())


def _plain_line(step: int, num_steps: int, batch_size: int, scalars: Scalars) -> str:
    seconds_left = (num_steps - step) * batch_size / scalars["images_per_second"]
    return f"step {step}/{num_steps} {_summary(scalars)} ETA {tqdm.format_interval(seconds_left)}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # one that only some sources need
        return None


def _git(*arguments: str) -> str | None:
    """Output of git in the program's own checkout, or None where there is none."""
    root = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
